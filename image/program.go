package image

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A Program is a Codec that is another program: called with "decompress" and
// the kind, or "compress", the kind and the level, it filters its input.
type Program []string

// Decompress starts the program.
func (p Program) Decompress(r io.Reader, kind string) (io.ReadCloser, error) {
	return startReader(r, p.command("decompress", kind))
}

// Compress starts the program.
func (p Program) Compress(w io.Writer, kind string, level int) (io.WriteCloser, error) {
	f := &filterWriter{cmd: p.command("compress", kind, strconv.Itoa(level)), to: &noting{w: w}}
	f.cmd.Stdout, f.cmd.Stderr = f.to, &f.stderr
	var err error
	if f.in, err = f.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return f, f.cmd.Start()
}

func (p Program) command(args ...string) *exec.Cmd {
	args = append(p[1:len(p):len(p)], args...)
	return exec.Command(p[0], args...)
}

// unxz decompresses by the program xz, which few archives need.
func unxz(r io.Reader) (io.ReadCloser, error) {
	path, err := exec.LookPath("xz")
	if err != nil {
		return nil, &hintError{err, "install xz, or decompress the file elsewhere"}
	}
	return startReader(r, exec.Command(path, "--decompress", "--stdout", "--quiet", "--memlimit=256MiB"))
}

func startReader(r io.Reader, cmd *exec.Cmd) (io.ReadCloser, error) {
	f := &filterReader{cmd: cmd, from: &noting{r: r}}
	cmd.Stdin, cmd.Stderr = f.from, &f.stderr
	cmd.WaitDelay = time.Second // a source that never ends does not keep Close
	var err error
	if f.out, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return f, cmd.Start()
}

// A filterReader reads what a program writes, and then how it ended.
type filterReader struct {
	cmd    *exec.Cmd
	from   *noting
	out    io.Reader
	stderr bytes.Buffer
	ended  bool
	err    error
}

func (f *filterReader) Read(p []byte) (int, error) {
	if f.ended {
		return 0, f.err
	}
	n, err := f.out.Read(p)
	if err == nil || n > 0 {
		return n, nil
	}
	f.ended, f.err = true, io.EOF
	if werr := f.cmd.Wait(); werr != nil {
		f.err = reason(werr, f.from, &f.stderr)
	}
	return 0, f.err
}

func (f *filterReader) Close() error {
	if f.ended {
		return nil
	}
	f.ended, f.err = true, errors.New("decompress: closed")
	f.cmd.Process.Kill()
	_ = f.cmd.Wait() // it was killed: that is what it says
	return nil
}

// A filterWriter feeds a program that writes elsewhere.
type filterWriter struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	to     *noting
	stderr bytes.Buffer
	closed bool
}

func (f *filterWriter) Write(p []byte) (int, error) { return f.in.Write(p) }

func (f *filterWriter) Close() error {
	if f.closed {
		return nil
	}
	f.closed = true
	f.in.Close()
	if err := f.cmd.Wait(); err != nil {
		return reason(err, f.to, &f.stderr)
	}
	return nil
}

// reason is why a program failed: because what it was fed from or wrote to did,
// by its own words, or as the system says.
func reason(err error, n *noting, stderr *bytes.Buffer) error {
	if n.err != nil {
		return n.err
	}
	if text := strings.TrimSpace(stderr.String()); text != "" {
		return errors.New(strings.TrimPrefix(text, "Error: "))
	}
	return err
}

// noting keeps the error of a source or a sink, which the copying to or from a
// program would lose: the program fails too.
type noting struct {
	r   io.Reader
	w   io.Writer
	err error
}

func (n *noting) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	if err != nil && err != io.EOF {
		n.err = err
	}
	return k, err
}

func (n *noting) Write(p []byte) (int, error) {
	k, err := n.w.Write(p)
	if err != nil {
		n.err = err
	}
	return k, err
}

// A hintError is an error that the user can cure.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }

// Hint is shown under the error.
func (e *hintError) Hint() string { return e.hint }
