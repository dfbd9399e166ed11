package test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// A program behind a published port sees who its client is, from another
// machine, as root and as a user; two networks do not reach each other.
func TestPublishedClientAddress(t *testing.T) {
	for _, as := range []string{"", testUser} {
		t.Run(as, func(t *testing.T) {
			inOwnHost(t)
			m := newMachine(t, as)
			neighbour := m.neighbour()
			m.ok("network", "create", "quay")
			m.ok("network", "create", "pier")
			m.ok("run", "-d", "--name", "c", "--network", "quay", "-p", "8081:80", "fx:1", "sh", "-c", "echo here >/tmp/i; exec busybox httpd -f -vv -p 80 -h /tmp")
			seen, said := false, ""
			for end := time.Now().Add(10 * time.Second); !seen && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				out, _ := exec.Command("nsenter", "-t", neighbour, "-n", "sh", "-c", `printf 'GET /i HTTP/1.0\r\n\r\n' | busybox nc -w 3 198.51.100.1 8081`).CombinedOutput()
				said = string(out)
				r := m.run("logs", "c")
				seen = strings.Contains(r.out+r.errOut, "198.51.100.2")
			}
			if !seen {
				r := m.run("logs", "c")
				t.Errorf("the program sees not 198.51.100.2, but %s%s%s", r.out, r.errOut, said)
			}
			address := m.ok("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "c")
			if r := m.run("run", "--rm", "--network", "pier", "fx:1", "busybox", "nc", "-w", "1", address, "80"); r.code == 0 {
				t.Errorf("a container of another network reaches %s", address)
			}
			if r := m.run("run", "--rm", "--network", "quay", "fx:1", "sh", "-c", "busybox nc -w 2 "+address+" 80 </dev/null"); r.code != 0 {
				t.Errorf("a container of the same network does not reach %s: %s", address, r.errOut)
			}
			m.ok("rm", "-f", "-t", "0", "c")
		})
	}
}

// A thousand idle clients of a name server by TCP, and one more that wants an
// answer: it has one, and so have those of another container.
func TestIdleNameClients(t *testing.T) {
	for _, as := range []string{"", testUser} {
		t.Run("as "+as, func(t *testing.T) {
			if as == "" {
				inOwnHost(t)
			}
			m := newMachine(t, as)
			m.ok("network", "create", "quay")
			pids := map[string]string{}
			for _, name := range []string{"a", "b"} {
				m.ok("run", "-d", "--name", name, "--network", "quay", "fx:1", "sleep", "1000")
				pids[name] = m.ok("inspect", "-f", "{{.State.Pid}}", name)
			}
			var before, after, beside time.Duration
			ask := func(into *time.Duration) func() error {
				return func() error {
					*into = askTimes(t, 20)
					return nil
				}
			}
			var idle []net.Conn
			defer func() {
				for _, c := range idle {
					c.Close()
				}
			}()
			crowd := func() error {
				for range 1000 {
					c, err := net.DialTimeout("tcp", "127.0.0.11:53", 5*time.Second)
					if err != nil {
						return fmt.Errorf("idle client %d: %w", len(idle), err)
					}
					idle = append(idle, c)
				}
				return nil
			}
			for _, step := range []struct {
				who string
				do  func() error
			}{{"a", ask(&before)}, {"a", crowd}, {"a", ask(&after)}, {"b", ask(&beside)}} {
				if err := inNetworkOf(pids[step.who], step.do); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("median of 20 answers: %v, with 1000 idle clients %v, in another container %v", before, after, beside)
			if max(after, beside) > time.Second {
				t.Errorf("an answer takes %v", max(after, beside))
			}
			m.ok("rm", "-f", "-t", "0", "-a")
		})
	}
}

// askTimes asks the name server of the thread's network for a, by UDP and TCP
// in turn, and returns the median.
func askTimes(t testing.TB, n int) time.Duration {
	q := []byte{0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1}
	var times []time.Duration
	for i := range n {
		proto := []string{"udp", "tcp"}[i%2]
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		c, err := (&net.Dialer{}).DialContext(ctx, proto, "127.0.0.11:53")
		cancel()
		if err == nil {
			c.SetDeadline(time.Now().Add(5 * time.Second))
			b := q
			if proto == "tcp" {
				b = append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)
			}
			if _, err = c.Write(b); err == nil {
				_, err = c.Read(make([]byte, 512))
			}
			c.Close()
		}
		if err != nil {
			t.Errorf("ask by %s: %v", proto, err)
		}
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	return times[len(times)/2]
}
