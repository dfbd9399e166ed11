package codec

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	text := strings.Repeat("a layer of a container's file system\n", 100_000)
	for _, kind := range []string{"gzip", "zstd"} {
		for _, level := range []int{0, 1} {
			var b bytes.Buffer
			w, err := Codec{}.Compress(&b, kind, level)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, text); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if b.Len() > len(text)/10 {
				t.Errorf("%s level %d: %d bytes of %d", kind, level, b.Len(), len(text))
			}
			cut := bytes.NewReader(b.Bytes()[:b.Len()/2])
			r, err := Codec{}.Decompress(&b, kind)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || string(got) != text {
				t.Errorf("%s level %d: %d bytes come back, %v", kind, level, len(got), err)
			}
			r.Close()
			if r, err = (Codec{}).Decompress(cut, kind); err == nil {
				if _, err = io.Copy(io.Discard, r); err == nil {
					t.Errorf("%s: half a stream is no error", kind)
				}
				r.Close()
			}
		}
	}
}

func TestRefusedKinds(t *testing.T) {
	if _, err := (Codec{}).Decompress(strings.NewReader(""), "lzma"); err == nil {
		t.Error("an unknown kind is decompressed")
	}
	for _, kind := range []string{"bzip2", "zstd:chunked", ""} {
		if _, err := (Codec{}).Compress(io.Discard, kind, 0); err == nil {
			t.Errorf("%q is written", kind)
		}
	}
}
