package usernet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/network"
)

// TestMain lets the test's program be hull-net.
func TestMain(m *testing.M) {
	if known, err := Main(os.Args[1:]); known {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A world is a host of the test's own, with a user's namespace and one
// container in it. The test's thread is in the host's namespace.
type world struct {
	*network.Manager
	run       string
	container *os.File
	host      string // the host's outer address
}

// With packet, /dev/net/tun is not there.
func newWorld(t testing.TB, packet bool) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs the program ip")
	}
	runtime.LockOSThread() // ends with the test, and the thread with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if packet {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			t.Fatal(err)
		}
		sh(t, "mount --make-rprivate /; mount -t tmpfs none /dev/net")
	} else if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("needs /dev/net/tun")
	}
	w := &world{run: t.TempDir(), host: "198.51.100.1"}
	sh(t, "ip link set lo up; ip link add d0 type bridge; ip addr add "+w.host+"/24 dev d0; ip link set d0 up; ip addr add 2001:db8::1/64 dev d0 nodad; echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	user, err := network.NewNamespace(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close() })
	w.Manager, err = network.Open(w.run+"/networks", w.run+"/run", network.Options{
		NetNS: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), user.Fd()), Rootless: true, Helper: self,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.container, err = network.NewNamespace(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.container.Close() })
	s, err := w.Setup(ctx, network.SetupOptions{ContainerID: "c", Netns: w.container})
	if err != nil {
		t.Fatalf("Setup = %v", err)
	}
	if got := s.Networks[0].DNSServer; len(got) != 1 || got[0] != network.UserDNS {
		t.Errorf("DNS servers = %v, want %v", got, network.UserDNS)
	}
	t.Cleanup(func() { w.kill(t) })
	return w
}

// pid is hull-net's process, the one that has the lock.
func (w *world) pid(t testing.TB) string {
	t.Helper()
	locks, _ := filepath.Glob(w.run + "/run/*/outside.lock")
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/3")
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		if len(locks) == 1 && to == locks[0] && !strings.HasPrefix(fd, fmt.Sprintf("/proc/%d/", os.Getpid())) {
			return strings.Split(fd, "/")[2]
		}
	}
	t.Fatal("hull-net does not run")
	return ""
}

func (w *world) kill(t testing.TB) {
	var pid int
	fmt.Sscan(w.pid(t), &pid)
	unix.Kill(pid, unix.SIGKILL)
}

func sh(t testing.TB, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// inside runs f on a thread in the container.
func (w *world) inside(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		err := unix.Setns(int(w.container.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (w *world) dial(proto, address string) (c net.Conn, err error) {
	err = w.inside(func() (err error) {
		c, err = net.DialTimeout(proto, address, 3*time.Second)
		return err
	})
	return c, err
}

// listen echoes streams at address, in the host's namespace.
func listen(t testing.TB, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestOutside(t *testing.T) { testOutside(t, newWorld(t, false)) }

func TestOutsideWithoutTAP(t *testing.T) { testOutside(t, newWorld(t, true)) }

func testOutside(t *testing.T, w *world) {
	t.Helper()
	port := listen(t, ":0")
	c, err := w.dial("tcp", w.host+":"+port)
	if err != nil {
		t.Fatal(err)
	}
	// A half-closed stream still brings its answer (NET-09).
	text := strings.Repeat("0123456789", 100_000)
	go func() {
		io.WriteString(c, text)
		c.(*net.TCPConn).CloseWrite()
	}()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(c); err != nil || string(got) != text {
		t.Errorf("echo of %d bytes = %d bytes, %v", len(text), len(got), err)
	}
	c.Close()
	start := time.Now()
	if c, err := w.dial("tcp", w.host+":1"); err == nil || time.Since(start) > time.Second {
		t.Errorf("dial of a closed port = %v, %v after %v, want refused at once", c, err, time.Since(start))
	}
	// No subtests: theirs would be other threads, in another namespace.
	w.datagrams(t)
	w.loopback(t, port)
	w.sandbox(t)
	w.restart(t, port)
	if _, err := exec.LookPath("ping"); err == nil {
		err := w.inside(func() error {
			out, err := exec.Command("ping", "-c1", "-W3", w.host).CombinedOutput()
			if err != nil {
				t.Errorf("ping: %s", out)
			}
			out, err = exec.Command("ping", "-c1", "-W1", "203.0.113.9").CombinedOutput()
			if err == nil {
				t.Errorf("ping of a machine that is not there: %s", out)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func (w *world) datagrams(t *testing.T) {
	u, err := net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo(b[:n], from)
		}
	}()
	c, err := w.dial("udp", fmt.Sprintf("%s:%d", w.host, u.LocalAddr().(*net.UDPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, size := range []int{0, 1, 1400, 9000} {
		b := make([]byte, 64<<10)
		c.Write(b[:size])
		c.SetReadDeadline(time.Now().Add(3 * time.Second))
		if n, err := c.Read(b); err != nil || n != size {
			t.Errorf("datagram of %d bytes comes back as %d, %v", size, n, err)
		}
	}
}

// loopback: NET-10, services on the host's loopback addresses are not reached
// by any name.
func (w *world) loopback(t *testing.T, port string) {
	only := listen(t, "127.0.0.1:0")
	only6 := listen(t, "[::1]:0")
	for _, host := range []string{
		network.UserGateway.String(), network.UserDNS.String(), network.UserAddress.Addr().String(), "10.88.0.1", "0.0.0.1", "255.255.255.255",
		network.UserGateway6.String(), "64:ff9b::7f00:1", "2002:7f00:1::", w.host,
	} {
		for _, p := range []string{port, only, only6} {
			if host == w.host && p == port {
				continue // a service on all addresses is reached at the outer one
			}
			c, err := w.dial("tcp", net.JoinHostPort(host, p))
			if err == nil {
				c.Close()
				t.Errorf("port %s is reached at %s", p, host)
			}
		}
	}
}

// sandbox: NET-11, the process has no capabilities and gets none.
func (w *world) sandbox(t *testing.T) {
	status, err := os.ReadFile("/proc/" + w.pid(t) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"} {
		if !strings.Contains(string(status), line+"\t0000000000000000\n") {
			t.Errorf("%s is not empty:\n%s", line, status)
		}
	}
	if !strings.Contains(string(status), "NoNewPrivs:\t1\n") {
		t.Errorf("NoNewPrivs is not set")
	}
}

// restart: after a kill, the next container brings it back for all.
func (w *world) restart(t *testing.T, port string) {
	w.kill(t)
	locks, _ := filepath.Glob(w.run + "/run/*/outside.lock")
	lock, err := os.Open(locks[0])
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil { // until all its threads are gone
		t.Fatal(err)
	}
	lock.Close()
	ns, err := network.NewNamespace(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if _, err := w.Setup(context.Background(), network.SetupOptions{ContainerID: "next", Netns: ns}); err != nil {
		t.Fatal(err)
	}
	c, err := w.dial("tcp", w.host+":"+port)
	if err != nil {
		t.Errorf("dial after a restart = %v", err)
	} else {
		c.Close()
	}
}

// BenchmarkOutside sends from a container to the host.
func BenchmarkOutside(b *testing.B) {
	b.Run("tap", func(b *testing.B) { benchOutside(b, newWorld(b, false)) })
	b.Run("packet", func(b *testing.B) { benchOutside(b, newWorld(b, true)) })
}

func benchOutside(b *testing.B, w *world) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 1<<20))
		}
	}()
	c, err := w.dial("tcp", fmt.Sprintf("%s:%d", w.host, l.Addr().(*net.TCPAddr).Port))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(len(buf)))
	b.ResetTimer()
	for range b.N {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAllowed(t *testing.T) {
	for text, want := range map[string]bool{
		"127.0.0.1": false, "127.9.9.9": false, "0.0.0.0": false, "0.1.2.3": false, "224.0.0.1": false, "255.255.255.255": false,
		"240.0.0.1": false, "10.0.2.2": false, "10.0.2.100": false, "::1": false, "::": false, "::ffff:127.0.0.1": false, "::127.0.0.1": false,
		"64:ff9b::7f00:1": false, "2002:7f00:1::": false, "ff02::1": false, "fe80::1": false, "fd00::2": false,
		"192.0.2.1": true, "10.0.3.1": true, "169.254.169.254": true, "2001:db8::1": true, "64:ff9b::c000:201": true, "fd01::2": true,
	} {
		if got := allowed(netip.MustParseAddr(text)); got != want {
			t.Errorf("allowed(%s) = %v, want %v", text, got, want)
		}
	}
	if allowed(netip.Addr{}) {
		t.Error("allowed(none) = true")
	}
}

func TestParseResolvers(t *testing.T) {
	got := parseResolvers("# x\nsearch a.example\nnameserver 192.0.2.1\nnameserver nonsense\n nameserver\t2001:db8::1 # y\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n")
	if want := "[192.0.2.1 2001:db8::1 192.0.2.2]"; fmt.Sprint(got) != want {
		t.Errorf("parseResolvers = %v, want %v", got, want)
	}
}
