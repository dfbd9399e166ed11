package engine

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"hull/state"
)

// proxied are the signals that are passed on. Not those that say something
// about this process's own terminal, children and pipes.
var proxied = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGALRM, syscall.SIGTERM, syscall.SIGCONT, syscall.SIGIO, syscall.SIGPWR, syscall.SIGXCPU, syscall.SIGVTALRM,
}

// A signalProxy passes this process's signals on to a container's. It takes
// the Go runtime a third of a millisecond to catch them all, and as long to
// let them go: so they are caught while the program is being started, which
// loses none that comes meanwhile, and never let go. Nil passes none on.
type signalProxy struct {
	to      chan state.ProcessID
	stopped chan struct{}
	once    sync.Once
}

func newSignalProxy() *signalProxy {
	return &signalProxy{to: make(chan state.ProcessID, 1), stopped: make(chan struct{})}
}

// catchSignals is a proxy at work, or nil where signals are not passed on.
func (st *Streams) catchSignals() *signalProxy {
	if !st.SigProxy {
		return nil
	}
	s := newSignalProxy()
	s.catch()
	return s
}

// catch begins to hold signals back until it is known who gets them.
func (s *signalProxy) catch() {
	if s != nil {
		go s.pass()
	}
}

func (s *signalProxy) pass() {
	ch := make(chan os.Signal, 32)
	signal.Notify(ch, proxied...)
	var p state.ProcessID
	select {
	case p = <-s.to:
	case <-s.stopped:
	}
	for sig := range ch {
		select {
		case <-s.stopped: // it does what it would do uncaught
			signal.Reset(sig)
			_ = unix.Kill(os.Getpid(), sig.(syscall.Signal))
		default:
			_ = sendSignal(p, sig.(syscall.Signal))
		}
	}
}

// passTo says who gets the signals, once.
func (s *signalProxy) passTo(p state.ProcessID) {
	if s != nil {
		s.to <- p
	}
}

// stop ends the passing on.
func (s *signalProxy) stop() {
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
