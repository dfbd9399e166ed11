package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"hull/command"
	"hull/front"
)

func isURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// A fetched is what a child brings from a URL. Its end is only the end when the
// child says that it has all.
type fetched struct {
	io.ReadCloser
	c    *exec.Cmd
	done bool
}

// fetch reads a URL by a child, since this binary does not speak HTTP.
func (s *session) fetch(ctx context.Context, url string) (io.ReadCloser, error) {
	path, err := front.Libexec(fullName)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", url, err)
	}
	c := exec.CommandContext(ctx, path, "internal-fetch", url)
	c.Args[0] = s.program
	c.Stderr = s.stderr
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", url, err)
	}
	return &fetched{ReadCloser: out, c: c}, nil
}

func (f *fetched) Read(p []byte) (int, error) {
	if f.done {
		return 0, io.EOF
	}
	n, err := f.ReadCloser.Read(p)
	if err == io.EOF {
		f.done = true
		if werr := f.c.Wait(); werr != nil {
			var exit *exec.ExitError
			if errors.As(werr, &exit) && exit.ExitCode() > 0 {
				return n, &command.Exit{Code: exit.ExitCode()} // the child has said why
			}
			return n, fmt.Errorf("fetch: %w", werr)
		}
	}
	return n, err
}

// Close ends the child, if it still has something to bring.
func (f *fetched) Close() error {
	if f.done {
		return nil
	}
	f.done = true
	f.ReadCloser.Close()
	_ = f.c.Wait() // it ends by the closed pipe, or has ended
	return nil
}
