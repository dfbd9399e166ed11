package engine

import (
	"context"
	"os"
	"strings"

	"hull/network"
)

// An ahead is a file that is made on another thread, so that it is there when
// the step of a start comes that needs it. Nothing but its descriptor keeps what
// it stands for. nil is one that is not made.
type ahead struct{ made chan *os.File }

// makeAhead begins to make a file. If it cannot be made, the step does without
// or tries again, and says what is wrong.
func makeAhead(f func() (*os.File, error)) *ahead {
	a := &ahead{make(chan *os.File, 1)}
	go func() {
		made, err := f()
		if err != nil {
			made = nil
		}
		a.made <- made
	}()
	return a
}

// take waits for the file, which is the caller's from then on; nil when there
// is none.
func (a *ahead) take() *os.File {
	if a == nil || a.made == nil {
		return nil
	}
	f := <-a.made
	a.made = nil
	return f
}

// Close gives up what nobody took.
func (a *ahead) Close() {
	if f := a.take(); f != nil {
		f.Close()
	}
}

// beside is work that goes on on another thread, and whose end is waited for
// once. nil is none.
type beside chan error

func begin(f func() error) beside {
	b := make(beside, 1)
	go func() { b <- f() }()
	return b
}

func (b *beside) wait() error {
	if *b == nil {
		return nil
	}
	err := <-*b
	*b = nil
	return err
}

// ownNetwork says whether a container gets a network namespace of its own from
// us. One with a user namespace gets it there.
func (e *Engine) ownNetwork(o *CreateOptions) bool {
	if o.Pod != "" || e.o.Runtime != "" || firstOf(o.UserNS, e.o.Defaults.UserNS, "host") != "host" ||
		len(o.UIDMap)+len(o.GIDMap) > 0 || o.SubUIDName+o.SubGIDName != "" {
		return false
	}
	switch word, _, _ := strings.Cut(firstOf(o.NetworkMode, e.o.Defaults.Network), ":"); word {
	case "none", "", "bridge", "default", "private":
		return true
	}
	return false
}

// namespaceAhead begins to make the network namespace of such a container.
func (e *Engine) namespaceAhead(o *CreateOptions) *ahead {
	if !e.ownNetwork(o) {
		return nil
	}
	return makeAhead(func() (*os.File, error) { return network.NewNamespace(context.Background()) })
}

// rootAhead begins to mount the container's layers, while its plan is compiled.
// What cannot be mounted so, the plan mounts. Whoever looked into the layers, for
// users or to fill a volume, has done so: two mounts may not have one upper directory.
func (t *starting) rootAhead() (err error) {
	if t.root, err = t.e.rootMounts(t.r); err != nil {
		return err
	}
	if len(t.root) != 1 || t.root[0].Type != "overlay" || !t.r.owners().none() || t.r.Runtime != "" || t.o.restore != nil {
		return nil
	}
	snaps, err := t.e.Snapshots()
	if err != nil {
		return err
	}
	t.tree = makeAhead(func() (*os.File, error) { return snaps.Detached(t.root[0]) })
	return nil
}
