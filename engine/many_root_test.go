package engine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hull/network"
)

// A netCount counts what containers on a bridge have on the host: those of one
// store and its own network, whatever else comes and goes on the machine.
type netCount struct{ interfaces, elements, namespaces, leases, processes int }

// ownNetwork makes a network that no other store has, and returns how its
// addresses begin.
func (h *harness) ownNetwork() (n network.Network, prefix string) {
	h.Helper()
	m, err := h.e.Networks()
	if err == nil {
		n, err = m.Create(h.Context(), network.CreateOptions{Name: "own", Interface: fmt.Sprintf("own%d", os.Getpid()%100000)})
	}
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		if err := m.Remove(context.Background(), n.Name); err != nil {
			h.Error(err)
		}
	})
	prefix = n.Subnets[0].Subnet.Addr().String()
	return n, prefix[:strings.LastIndex(prefix, ".")+1]
}

func (h *harness) netCount(n network.Network, prefix string) netCount {
	var c netCount
	ports, _ := os.ReadDir("/sys/class/net/" + n.Interface + "/brif")
	c.interfaces = len(ports)
	// Elements of published ports that lead to one of the network's addresses.
	for _, m := range []string{"ports4", "any4"} {
		out, _ := exec.Command("nft", "list", "map", "inet", "hull", m).Output()
		c.elements += strings.Count(string(out), ": "+prefix)
	}
	here, _ := os.Readlink("/proc/self/ns/net")
	seen := map[string]bool{}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		if p == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		if !h.owns(p) {
			continue
		}
		c.processes++
		if to, err := os.Readlink(p + "/ns/net"); err == nil && to != here {
			seen[to] = true
		}
	}
	c.namespaces = len(seen)
	leases, _ := filepath.Glob(h.dir + "/run/network/*/leases/*/*.*.*.*")
	c.leases = len(leases)
	return c
}

// owns says that a process is a container's, whose root is a layer above the
// store's; or names the store, as commands do; or has its files open, as
// monitors have.
func (h *harness) owns(process string) bool {
	for _, file := range []string{"cmdline", "environ", "mountinfo"} {
		if b, _ := os.ReadFile(process + "/" + file); strings.Contains(string(b), h.dir) {
			return true
		}
	}
	comm, _ := os.ReadFile(process + "/comm")
	if !strings.HasPrefix(string(comm), "hull-") {
		return false
	}
	files, _ := filepath.Glob(process + "/fd/*")
	for _, f := range files {
		if to, _ := os.Readlink(f); strings.HasPrefix(to, h.dir) {
			return true
		}
	}
	return false
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
	own, prefix := h.ownNetwork()
	// What is counted is seen at all.
	o := h.options("sleep", "1000")
	o.Name, o.NetworkMode = "seen", ""
	o.Networks, o.Publish = []NetworkAttach{{Name: own.Name}}, []PortMapping{{ContainerPort: 80, Protocol: "tcp"}}
	if _, err := h.e.Run(h.Context(), o, RunOptions{Detach: true}); err != nil {
		t.Fatal(err)
	}
	most := h.netCount(own, prefix)
	if most.interfaces == 0 || most.elements == 0 || most.namespaces == 0 || most.leases == 0 || most.processes < 2 {
		t.Errorf("of one container only %v are seen", most)
	}
	if _, err := h.e.Remove(h.Context(), "seen", RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	work := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range work {
				o := h.options("sh", "-c", "sleep 0.1; exit 7")
				o.AutoRemove = true
				if i%4 == 0 {
					o.NetworkMode, o.Networks = "", []NetworkAttach{{Name: own.Name}}
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
			c := h.netCount(own, prefix)
			most = netCount{max(most.interfaces, c.interfaces), max(most.elements, c.elements), max(most.namespaces, c.namespaces), max(most.leases, c.leases), max(most.processes, c.processes)}
		}
	}
	close(work)
	wg.Wait()
	var after netCount
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if after = h.netCount(own, prefix); after == (netCount{}) {
			t.Logf("%d containers, 16 at once\nat most: %v", n, most)
			return
		}
	}
	t.Errorf("left behind: %v", after)
}
