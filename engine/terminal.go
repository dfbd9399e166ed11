package engine

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// attachTerminal makes the user's terminal raw, so that every key is the
// container's, and passes its size on, now and whenever it changes. stop puts
// it back. A nil console is none.
func attachTerminal(console *os.File, resize func(rows, cols uint16)) (stop func(), err error) {
	if console == nil {
		return func() {}, nil
	}
	fd := int(console.Fd())
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("set terminal: %w", err)
	}
	size := func() {
		if w, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil && w.Row > 0 && w.Col > 0 {
			resize(w.Row, w.Col)
		}
	}
	size()
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGWINCH)
	go func() {
		for range ch {
			size()
		}
	}()
	return func() {
		signal.Stop(ch)
		close(ch)
		term.Restore(fd, old)
	}, nil
}
