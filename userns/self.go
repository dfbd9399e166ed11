package userns

import (
	"os"
	"strconv"
	"strings"

	"hull/state"
)

// Needed reports whether this process must Enter before it can make mounts
// and namespaces.
func Needed() bool { return os.Geteuid() != 0 }

// Rootless reports whether this process is not, and does not become, root of
// the host.
func Rootless() bool { return HostUID() != 0 }

// HostUID is who the calling process is outside its user namespace, as far as
// the namespace above it tells; 0 for root of the host.
func HostUID() int {
	if uid := os.Geteuid(); uid != 0 {
		return uid
	}
	outside, ok := outside("/proc/self/uid_map")
	if !ok {
		return 0
	}
	return outside
}

// Initial reports whether this process is in the host's own user namespace.
func Initial() bool {
	b, err := state.ReadFile("/proc/self/uid_map")
	if err != nil {
		return true
	}
	w := strings.Fields(string(b))
	return len(w) == 3 && w[0] == "0" && w[1] == "0" && w[2] == "4294967295"
}

// outside reads what id 0 is in the namespace above.
func outside(file string) (int, bool) {
	b, err := state.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) == 3 && w[0] == "0" {
			n, err := strconv.Atoi(w[1])
			return n, err == nil
		}
	}
	return 0, false
}
