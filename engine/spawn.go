package engine

import "hull/monitor"

// A spawning is a monitor that gets ready while the container is made. It is
// started beside, too: until the new process executes its program, whoever
// forked it stands still.
type spawning struct {
	done  chan struct{}
	spare *monitor.Spare
	err   error
}

func (e *Engine) spawn(o startOptions) *spawning {
	s := &spawning{done: make(chan struct{})}
	go func() {
		s.spare, s.err = monitor.Spawn(e.spawnOptions(o))
		close(s.done)
	}()
	return s
}

func (s *spawning) wait() (*monitor.Spare, error) {
	<-s.done
	return s.spare, s.err
}

// close ends a monitor that was not needed.
func (s *spawning) close() {
	if spare, err := s.wait(); err == nil {
		spare.Close()
	}
}
