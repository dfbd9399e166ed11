package engine

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"hull/network"
	"hull/oci"
)

// network begins to join the container to its networks, in a namespace that
// exists before its processes: a program never runs without.
func (t *starting) network(ctx context.Context) error {
	own, err := t.userNamespace()
	if err != nil {
		return err
	}
	mode := t.r.networkMode(t.e)
	switch word, _, _ := strings.Cut(mode, ":"); word {
	case "none":
		if t.netns = t.keep(t.o.netns.take()); t.netns != nil {
			t.joinNetwork()
		}
		return nil
	case "host", "container", "ns":
		return nil
	case "", "bridge", "private", "default", network.OutsidePasta, network.OutsideSlirp:
	default:
		return fmt.Errorf("network mode %q is not known here", mode)
	}
	m, err := t.e.Networks()
	if err != nil {
		return err
	}
	if t.netns = own; own != nil {
		err = m.PrepareNamespace(own)
	} else if t.netns = t.keep(t.o.netns.take()); t.netns == nil {
		t.netns, err = network.NewNamespace(ctx)
		t.keep(t.netns)
	}
	if err != nil {
		return err
	}
	o := network.SetupOptions{ContainerID: t.r.ID, ContainerName: t.r.Name, Netns: t.netns}
	if o.Own, err = t.e.ownStack(t.r); err != nil {
		return err
	}
	if o.Own == nil {
		if o.Networks, err = t.r.attachments(); err != nil {
			return err
		}
		if err = t.o.restore.keepAddresses(checkpointDir(t.r), o.Networks); err != nil {
			return err
		}
	}
	if o.Ports, err = t.r.ports(); err != nil {
		return err
	}
	t.joinNetwork()
	t.joining = begin(func() (err error) {
		t.net, err = m.Setup(ctx, o)
		return err
	})
	return nil
}

// connected waits until the container is on its networks, and writes down what
// depends on its addresses.
func (t *starting) connected(context.Context) error {
	if err := t.joining.wait(); err != nil {
		return err
	}
	if err := t.serveNames(); err != nil {
		return err
	}
	return t.e.writeNames(t.r, &t.facts, t.net.Networks)
}

// settled waits for what is made beside the steps, also where one of them failed.
func (t *starting) settled(ctx context.Context) {
	t.limits(ctx)
	t.joining.wait()
}

// joinNetwork makes the network namespace that is there the container's.
func (t *starting) joinNetwork() {
	t.facts.Join[oci.NetworkNamespace] = "/proc/self/fd/" + strconv.Itoa(int(t.netns.Fd()))
}

// userNamespace makes the container's user namespace, or takes the one it
// joins, when it has maps, and with it a network namespace.
func (t *starting) userNamespace() (net *os.File, err error) {
	var join *os.File
	switch path := t.facts.Join[oci.UserNamespace]; {
	case t.r.owners().none():
		return nil, nil
	case path != "":
		if join, err = os.Open(path); err != nil {
			return nil, fmt.Errorf("join user namespace: %w", err)
		}
		defer join.Close()
	}
	t.userns, net, err = t.e.userNamespace(t.r, join)
	t.keep(t.userns)
	return t.keep(net), err
}
