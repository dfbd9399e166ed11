package engine

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"hull/oci"
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
		if w := consoleSize(console); w != nil {
			resize(uint16(w.Height), uint16(w.Width))
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

// consoleSize is nil for no terminal, or one that does not say.
func consoleSize(console *os.File) *oci.Box {
	if console == nil {
		return nil
	}
	w, err := unix.IoctlGetWinsize(int(console.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Row == 0 || w.Col == 0 {
		return nil
	}
	return &oci.Box{Height: uint(w.Row), Width: uint(w.Col)}
}
