package layer

import (
	"archive/tar"
	"fmt"
	"os"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrRecord begins the PAX record of an extended attribute.
const xattrRecord = "SCHILY.xattr."

// keepXattr reports whether an attribute belongs into a layer. trusted.* is
// the host administrator's, security.* but capabilities is the host's labels
// and signatures, and overlay's own marks would let a layer forge another
// directory's content (UNP-07).
func keepXattr(name string) bool {
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// xattrs sets the extended attributes of what fd is open on.
func (a *applier) xattrs(fd int, h *tar.Header) error {
	if len(h.PAXRecords) == 0 {
		return nil
	}
	var names []string
	for key := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrRecord); ok && keepXattr(name) {
			names = append(names, name)
		}
	}
	sort.Strings(names) // an error is the same each time
	for _, name := range names {
		err := unix.Fsetxattr(fd, name, []byte(h.PAXRecords[xattrRecord+name]), 0)
		switch {
		case err == nil, err == unix.ENOTSUP: // the file system has none
		case err == unix.EPERM && a.o.IgnoreChown: // a capability is for one user id only
		default:
			return fmt.Errorf("set attribute %s: %w", printable(name), err)
		}
	}
	return nil
}

// Xattrs are the extended attributes of an open file that layers keep, as PAX
// records.
func Xattrs(f *os.File) map[string]string { return xattrs(int(f.Fd())) }
