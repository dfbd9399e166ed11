package front

import (
	"golang.org/x/sys/unix"
)

// ownDirectory reports whether path is a directory, not a link to one, that
// belongs to the caller and has none of the permissions in deny.
func ownDirectory(path string, deny uint32) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR &&
		int(st.Uid) == unix.Geteuid() && st.Mode&deny == 0
}
