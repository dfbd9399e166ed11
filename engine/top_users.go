package engine

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"hull/inroot"
)

// passwdNames are the container's names by id, as its own /etc/passwd has
// them: bounded, and empty when that is no ordinary file (USR-04).
func passwdNames(pid int) map[string]string {
	out := make(map[string]string)
	root, err := os.Open(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return out
	}
	defer root.Close()
	f, err := inroot.Open(root, "/etc/passwd", unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return out
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return out
	}
	lines := bufio.NewScanner(io.LimitReader(f, 1<<20))
	for lines.Scan() {
		w := strings.SplitN(lines.Text(), ":", 4)
		if len(w) == 4 {
			if _, ok := out[w[2]]; !ok {
				out[w[2]] = w[0]
			}
		}
	}
	return out
}
