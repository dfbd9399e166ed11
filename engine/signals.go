package engine

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hull/state"
)

// The signals that are passed on: those that people and service managers send
// to a program in the foreground, and the others. Not those that say something
// about this process's own terminal, children and pipes.
var (
	endings = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2}
	others  = []os.Signal{
		syscall.SIGABRT, syscall.SIGALRM, syscall.SIGCONT, syscall.SIGIO, syscall.SIGPWR, syscall.SIGXCPU, syscall.SIGVTALRM,
	}
)

// moment is how long a program runs before the others are caught too: a short
// one is over before the Go runtime is done with them.
const moment = 10 * time.Millisecond

// A SignalProxy passes this process's signals on to another's, a container's. It takes
// the Go runtime a third of a millisecond to catch a dozen, and as long to
// let them go: so they are caught while the program is being started, which
// loses none that comes meanwhile, and never let go. Nil passes none on.
type SignalProxy struct {
	others  []os.Signal // caught later; empty are all that there are
	to      chan state.ProcessID
	stopped chan struct{}
	once    sync.Once
}

// NewSignalProxy makes a proxy of the signals that podman passes on, or, as runc
// does, of all that are not about this process's own terminal, children and pipes.
func NewSignalProxy(all bool) *SignalProxy {
	s := &SignalProxy{to: make(chan state.ProcessID, 1), stopped: make(chan struct{})}
	if !all {
		s.others = others
	}
	return s
}

// catchSignals is a proxy at work, or nil where signals are not passed on.
func (st *Streams) catchSignals() *SignalProxy {
	if !st.SigProxy {
		return nil
	}
	s := NewSignalProxy(false)
	s.Catch()
	return s
}

// Catch begins to hold signals back until it is known who gets them.
func (s *SignalProxy) Catch() {
	if s != nil {
		go s.pass()
	}
}

func (s *SignalProxy) pass() {
	ch := make(chan os.Signal, 32)
	signal.Notify(ch, endings...)
	var p state.ProcessID
	select {
	case p = <-s.to:
	case <-s.stopped:
	}
	later := time.After(moment)
	for {
		select {
		case <-later:
			signal.Notify(ch, s.others...)
		case sig := <-ch:
			s.passOn(p, sig)
		}
	}
}

func (s *SignalProxy) passOn(p state.ProcessID, sig os.Signal) {
	switch sig {
	case syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPIPE, syscall.SIGWINCH:
		return
	}
	select {
	case <-s.stopped: // it does what it would do uncaught
		signal.Reset(sig)
		_ = unix.Kill(os.Getpid(), sig.(syscall.Signal))
	default:
		_ = sendSignal(p, sig.(syscall.Signal))
	}
}

// PassTo says who gets the signals, once.
func (s *SignalProxy) PassTo(p state.ProcessID) {
	if s != nil {
		s.to <- p
	}
}

// stop ends the passing on.
func (s *SignalProxy) stop() {
	if s != nil {
		s.once.Do(func() { close(s.stopped) })
	}
}

// sendSignal signals the one process that p names, and no later one of its
// number.
func sendSignal(p state.ProcessID, sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err == nil {
		defer unix.Close(fd)
		if !p.Alive() {
			return unix.ESRCH
		}
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	return err
}

// openAlive opens p; the descriptor is below 0 when it is not there any more,
// which is no error.
func openAlive(p state.ProcessID) (fd int, err error) {
	fd, err = unix.PidfdOpen(p.Pid, 0)
	if err == unix.ESRCH {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	if !p.Alive() {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}
