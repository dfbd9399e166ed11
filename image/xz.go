package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// unxz decompresses by the program xz: few archives need it, and a package
// that can would cost each start of the engine 0.3 ms for its tables.
func unxz(r io.Reader) (io.ReadCloser, error) {
	path, err := exec.LookPath("xz")
	if err != nil {
		return nil, &hintError{fmt.Errorf("decompress xz: %w", err), "install xz, or decompress the file elsewhere"}
	}
	x := &xzReader{cmd: exec.Command(path, "--decompress", "--stdout", "--quiet", "--memlimit=256MiB")}
	x.cmd.Stdin, x.cmd.Stderr = r, &x.stderr
	x.cmd.WaitDelay = time.Second // a source that never ends does not keep Close
	if x.out, err = x.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("decompress xz: %w", err)
	}
	if err := x.cmd.Start(); err != nil {
		return nil, fmt.Errorf("decompress xz: %w", err)
	}
	return x, nil
}

// xzReader reads what the program writes, and then how it ended.
type xzReader struct {
	cmd    *exec.Cmd
	out    io.Reader
	stderr bytes.Buffer
	ended  bool
	err    error
}

func (x *xzReader) Read(p []byte) (int, error) {
	if x.ended {
		return 0, x.err
	}
	n, err := x.out.Read(p)
	if err == nil || n > 0 {
		return n, nil
	}
	x.ended, x.err = true, io.EOF
	if werr := x.cmd.Wait(); werr != nil {
		x.err = fmt.Errorf("decompress xz: %w: %s", werr, strings.TrimSpace(x.stderr.String()))
	}
	return 0, x.err
}

func (x *xzReader) Close() error {
	if x.ended {
		return nil
	}
	x.ended, x.err = true, errors.New("decompress xz: closed")
	x.cmd.Process.Kill()
	_ = x.cmd.Wait() // it was killed: that is what it says
	return nil
}

// A hintError is an error that the user can cure.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }

// Hint is shown under the error.
func (e *hintError) Hint() string { return e.hint }
