package engine

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A netCount counts what containers on a bridge have on the host.
type netCount struct{ interfaces, elements, namespaces, leases, processes int }

func (h *harness) netCount() netCount {
	var c netCount
	all, _ := net.Interfaces()
	for _, i := range all {
		if strings.HasPrefix(i.Name, "hull-") {
			c.interfaces++
		}
	}
	// Of published ports; the sets' own are the networks'.
	for _, m := range []string{"ports4", "ports6", "any4", "any6"} {
		out, _ := exec.Command("nft", "list", "map", "inet", "hull", m).Output()
		if _, elements, ok := strings.Cut(string(out), "elements = {"); ok {
			c.elements += 1 + strings.Count(elements, ",")
		}
	}
	seen := map[string]bool{}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil {
			seen[to] = true
		}
	}
	c.namespaces = len(seen)
	leases, _ := filepath.Glob(h.dir + "/run/network/*/leases/*/*.*.*.*")
	c.leases = len(leases)
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if b, _ := os.ReadFile(p); strings.HasPrefix(string(b), "hull-monitor") || strings.Contains(string(b), h.dir) {
			c.processes++
		}
	}
	return c
}

func (c netCount) String() string {
	return fmt.Sprintf("%d interfaces, %d elements of published ports, %d network namespaces, %d leases, %d processes", c.interfaces, c.elements, c.namespaces, c.leases, c.processes)
}

// 200 containers, 16 at a time, a quarter of them on a bridge and with a
// published port, leave nothing behind.
func TestManyAtOnceLeaveNothing(t *testing.T) {
	h := newHarness(t)
	n := 200
	if testing.Short() {
		n = 32
	}
	before := h.netCount()
	var most netCount
	work := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range work {
				o := h.options("sh", "-c", "sleep 0.1; exit 7")
				o.AutoRemove = true
				if i%4 == 0 {
					o.NetworkMode = "bridge"
				}
				if i%8 == 0 {
					o.Publish = []PortMapping{{ContainerPort: 80, Protocol: "tcp"}}
				}
				code, _, errs, err := h.run(o)
				if err != nil || code != 7 {
					t.Errorf("container %d: exit code %d, error %v %s", i, code, err, errs)
				}
			}
		})
	}
	for i := range n {
		work <- i
		if i%20 == 19 {
			c := h.netCount()
			most = netCount{max(most.interfaces, c.interfaces), max(most.elements, c.elements), max(most.namespaces, c.namespaces), max(most.leases, c.leases), max(most.processes, c.processes)}
		}
	}
	close(work)
	wg.Wait()
	var after netCount
	// Others on this machine come and go: what is counted need only once be as before.
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		after = h.netCount()
		if after.leases == 0 && after.interfaces <= before.interfaces && after.elements <= before.elements && after.namespaces <= before.namespaces && after.processes <= before.processes {
			t.Logf("%d containers, 16 at once\nbefore:  %v\nat most: %v\nafter:   %v", n, before, most, after)
			return
		}
	}
	t.Errorf("left behind\nbefore: %v\nafter:  %v", before, after)
}
