package image

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// shell is a codec of the shell: what it says and how it ends.
func shell(script string) Program { return Program{"sh", "-c", script, "codec"} }

func TestProgramFilters(t *testing.T) {
	r, err := shell(`[ "$1 $2" = "decompress gzip" ] && tr a-z A-Z`).Decompress(strings.NewReader("a layer"), "gzip")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "A LAYER" {
		t.Errorf("%q, %v", got, err)
	}
	var b bytes.Buffer
	w, err := shell(`[ "$1 $2 $3" = "compress zstd 7" ] && tr a-z A-Z`).Compress(&b, "zstd", 7)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "a layer")
	if err := w.Close(); err != nil || b.String() != "A LAYER" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

// An error says why, whoever had it: the source, the sink or the program.
func TestProgramErrors(t *testing.T) {
	cause := errors.New("the disk is gone")
	r, err := shell("cat").Decompress(iotest.ErrReader(cause), "gzip")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, cause) {
		t.Errorf("the source's error became %v", err)
	}
	r, err = shell("echo 'Error: gzip: invalid header' >&2; exit 1").Decompress(strings.NewReader("x"), "gzip")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err == nil || err.Error() != "gzip: invalid header" {
		t.Errorf("the program's error became %v", err)
	}
	w, err := shell("cat").Compress(failingWriter{cause}, "gzip", 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "a layer")
	if err := w.Close(); !errors.Is(err, cause) {
		t.Errorf("the sink's error became %v", err)
	}
	if _, err := (Program{"/nowhere/codec"}).Decompress(strings.NewReader(""), "gzip"); err == nil {
		t.Error("a program that is not there is no error")
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }
