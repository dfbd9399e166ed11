package network

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A sentinel is one of the package's errors that is also one of io/fs, which
// it does not say aloud.
type sentinel struct {
	text string
	kind error
}

func (e *sentinel) Error() string { return e.text }
func (e *sentinel) Unwrap() error { return e.kind }

// A hintError has a cure.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }
func (e *hintError) Hint() string  { return e.hint }

func hint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// deviceError explains why the kernel did not make a device of a kind.
func deviceError(kind string, err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return hint(fmt.Errorf("%w: this kernel has no devices of kind %s", err, kind), "load the module if there is one: modprobe %s", kind)
	case errors.Is(err, unix.EPERM):
		return hint(err, "devices of kind %s need the host's root", kind)
	}
	return err
}

// noFilter explains that there is no packet filter.
func noFilter(err error) error {
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return hint(fmt.Errorf("%w: this kernel has no nf_tables, which isolates networks and publishes ports", err),
			"load the module: modprobe nf_tables; or use --network host or none")
	}
	return err
}

// noIPv6 explains that the host has IPv6 switched off.
func noIPv6(n *Network, err error) error {
	if n.IPv6 && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT)) {
		return hint(err, "IPv6 is off on this host: turn it on (sysctl net.ipv6.conf.all.disable_ipv6=0), or make the network without --ipv6")
	}
	return err
}
