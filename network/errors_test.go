package network

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What the kernel says of a part that it lacks, and what a person is told.
func TestErrorsExplain(t *testing.T) {
	for _, c := range []struct {
		err        error
		want, hint string
	}{
		{noFilter(unix.EPROTONOSUPPORT), "no nf_tables", "modprobe nf_tables"},
		{noFilter(fmt.Errorf("x: %w", unix.EOPNOTSUPP)), "no nf_tables", "--network host"},
		{deviceError("veth", unix.EOPNOTSUPP), "no devices of kind veth", "modprobe veth"},
		{deviceError("macvlan", unix.EPERM), "operation not permitted", "host's root"},
		{noIPv6(&Network{IPv6: true}, unix.EACCES), "permission denied", "IPv6 is off"},
	} {
		var h *hintError
		if !errors.As(c.err, &h) || !strings.Contains(h.Hint(), c.hint) || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%v has not %q and the hint %q", c.err, c.want, c.hint)
		}
	}
	for _, err := range []error{noFilter(nil), noFilter(unix.EPERM), deviceError("veth", unix.EEXIST), noIPv6(&Network{}, unix.EACCES)} {
		if h := (*hintError)(nil); errors.As(err, &h) {
			t.Errorf("%v has a hint: %s", err, h.Hint())
		}
	}
	if !errors.Is(ErrNotFound, fs.ErrNotExist) || ErrNotFound.Error() != "no such network" {
		t.Errorf("ErrNotFound = %v", ErrNotFound)
	}
}
