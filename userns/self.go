package userns

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"hull/state"
)

// Needed reports whether this process must Enter before it can make mounts
// and namespaces.
func Needed() bool { return os.Geteuid() != 0 }

// Rootless reports whether this process is not, and does not become, root of
// the host.
func Rootless() bool { return HostUID() != 0 }

// ownMap is this process's uid_map, in words, three a line; it stays as it is
// while the process lives. nil where /proc does not tell it.
var ownMap = sync.OnceValue(func() []string {
	b, err := state.ReadFile("/proc/self/uid_map")
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
})

// HostUID is who the calling process is outside its user namespace, as far as
// the namespace above it tells; 0 for root of the host.
func HostUID() int {
	if uid := os.Geteuid(); uid != 0 {
		return uid
	}
	for w := ownMap(); len(w) >= 3; w = w[3:] {
		if w[0] == "0" {
			outside, err := strconv.Atoi(w[1])
			if err != nil {
				return 0
			}
			return outside
		}
	}
	return 0
}

// Initial reports whether this process is in the host's own user namespace.
func Initial() bool {
	w := ownMap()
	return w == nil || len(w) == 3 && w[0] == "0" && w[1] == "0" && w[2] == "4294967295"
}
