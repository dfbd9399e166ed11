package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Throughput: each round measures every way once, so that a noisy machine
// slows all alike.
const (
	throughputRounds  = 10
	throughputSeconds = "1"
	benchUser         = "hulltest"
)

// A way is one path through the machine, measured by iperf3.
type way struct {
	name string
	// client says where iperf3 connects to, from inside of what.
	inside  string // a process whose network namespace the client is in
	address string
	port    string
	reverse bool // the server sends
	// kernel says that no process but iperf3's two moves the bytes.
	kernel bool
	gbits  []float64
	perCPU []float64 // Gbit that a second of a processor moves, where kernel is set
	fails  int
	// base and limit: the least ratio to another way's median.
	base  string
	limit float64
}

// lab is a host of the bench's own, and an outside beyond it:
//
//	containers ── host ── outside
//	              198.51.100.1   198.51.100.2
type lab struct {
	*bench
	host, outside string // processes that hold the namespaces
	servers       []*exec.Cmd
	user          *user.User
	store         string // the user's
}

// throughput prints what passes through each kind of network.
func (b *bench) throughput() (*group, error) {
	for _, p := range []string{"iperf3", "ip", "nft", "nsenter", "setpriv"} {
		if installed(p) == "" {
			fmt.Printf("throughput: not measured: needs the program %s\n\n", p)
			return nil, nil
		}
	}
	l := &lab{bench: b}
	defer l.close()
	if err := l.lay(); err != nil {
		return nil, err
	}
	ways, err := l.rootWays()
	if err != nil {
		return nil, err
	}
	if u, err := user.Lookup(benchUser); err == nil {
		l.user = u
		more, err := l.userWays()
		if err != nil {
			return nil, err
		}
		ways = append(ways, more...)
	}
	for range throughputRounds {
		for _, w := range ways {
			w.measure()
		}
	}
	printWays(ways)
	return nil, nil
}

// hold starts a process in a network namespace of its own.
func (l *lab) hold() (string, error) {
	c := exec.Command("sleep", "100000")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		return "", err
	}
	l.servers = append(l.servers, c)
	return strconv.Itoa(c.Process.Pid), nil
}

// in is a command line in the network namespace of a process.
func in(pid string, argv ...string) []string {
	return append([]string{"nsenter", "-t", pid, "-n", "--"}, argv...)
}

func output(argv ...string) (string, error) {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

func (l *lab) lay() (err error) {
	if l.host, err = l.hold(); err != nil {
		return err
	}
	if l.outside, err = l.hold(); err != nil {
		return err
	}
	script := `ip link set lo up
ip link add out0 type veth peer name in0 netns ` + l.outside + `
ip addr add 198.51.100.1/24 dev out0; ip link set out0 up; ip route add default via 198.51.100.2`
	if _, err := output(in(l.host, "sh", "-ec", script)...); err != nil {
		return err
	}
	if _, err := output(in(l.outside, "sh", "-ec", "ip link set lo up; ip addr add 198.51.100.2/24 dev in0; ip link set in0 up")...); err != nil {
		return err
	}
	return l.serve(l.outside)
}

// serve starts an iperf3 that waits in a namespace.
func (l *lab) serve(pid string) error {
	argv := in(pid, "iperf3", "-s")
	c := exec.Command(argv[0], argv[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		return err
	}
	l.servers = append(l.servers, c)
	return nil
}

func (l *lab) close() {
	l.command(in(l.host, l.hull("rm", "-af", "-t", "0")...)).Run()
	if l.user != nil {
		l.command(l.asUser("rm", "-af", "-t", "0")).Run()
		l.command(l.asUser("system", "reset", "-f")).Run()
	}
	for _, c := range l.servers {
		c.Process.Kill()
		c.Wait()
	}
}

// rootWays: a bridge, veths and a NAT rule made by hand, and Hull's.
func (l *lab) rootWays() ([]*way, error) {
	hand, err := l.hold()
	if err != nil {
		return nil, err
	}
	script := `ip link add hand0 type bridge; ip addr add 10.77.0.1/24 dev hand0; ip link set hand0 up
ip link add v0 type veth peer name eth0 netns ` + hand + `
ip link set v0 master hand0; ip link set v0 up; echo 1 >/proc/sys/net/ipv4/ip_forward
nft add table ip hand; nft 'add chain ip hand post { type nat hook postrouting priority 100; }'
nft add rule ip hand post ip saddr 10.77.0.0/24 oifname out0 masquerade`
	if _, err := output(in(l.host, "sh", "-ec", script)...); err != nil {
		return nil, err
	}
	if _, err := output(in(hand, "sh", "-ec", "ip link set lo up; ip addr add 10.77.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.77.0.1")...); err != nil {
		return nil, err
	}
	if _, err := output(in(l.host, l.hull("run", "-d", "--name", "net", "localhost/bench:1", "sleep", "100000")...)...); err != nil {
		return nil, err
	}
	pid, err := output(l.hull("inspect", "-f", "{{.State.Pid}}", "net")...)
	if err != nil {
		return nil, err
	}
	return []*way{
		{name: "root: by hand", kernel: true, inside: hand, address: "198.51.100.2"},
		{name: "root: hull", kernel: true, inside: pid, address: "198.51.100.2", base: "root: by hand", limit: 0.95},
		{name: "root: by hand, received", kernel: true, inside: hand, address: "198.51.100.2", reverse: true},
		{name: "root: hull, received", kernel: true, inside: pid, address: "198.51.100.2", reverse: true, base: "root: by hand, received", limit: 0.95},
	}, nil
}

// asUser is a command line of hull as the user, in the lab's host.
func (l *lab) asUser(args ...string) []string {
	u := l.user
	argv := []string{"setpriv", "--reuid", u.Uid, "--regid", u.Gid, "--init-groups", "env", "-C", l.store,
		"HOME=" + l.store, "XDG_RUNTIME_DIR=" + l.store + "/run", "CONTAINERS_CONF=/dev/null", filepath.Join(l.store, "bin", "hull")}
	return in(l.host, append(argv, args...)...)
}

// userStore makes the user's own store with the image.
func (l *lab) userStore() error {
	var err error
	if l.store, err = os.MkdirTemp("", "hull-bench-user-"); err != nil {
		return err
	}
	l.undo = append(l.undo, func() { os.RemoveAll(l.store) })
	_, err = output("sh", "-ec", fmt.Sprintf("mkdir %[1]s/run; cp -r %[2]s %[1]s/bin; cp %[3]s/rootfs.tar %[1]s/; chmod -R a+rX %[1]s; chown %[4]s:%[5]s %[1]s %[1]s/run", l.store, l.bin, l.dir, l.user.Uid, l.user.Gid))
	if err != nil {
		return err
	}
	_, err = output(l.asUser("import", filepath.Join(l.store, "rootfs.tar"), "localhost/bench:1")...)
	return err
}

// userWays: Hull's own stack beside those of the peers, out and in.
func (l *lab) userWays() ([]*way, error) {
	if err := l.userStore(); err != nil {
		return nil, err
	}
	var ways []*way
	const slirp, pasta, hull = "user: slirp4netns", "user: pasta", "user: hull"
	for i, c := range []struct{ name, program, mode string }{{slirp, "slirp4netns", "slirp4netns"}, {pasta, "pasta", "pasta"}, {hull, "sh", ""}} {
		if installed(c.program) == "" {
			continue
		}
		port := strconv.Itoa(5301 + i)
		args := []string{"run", "-d", "--name", "u" + strconv.Itoa(i), "-p", port + ":5201"}
		if c.mode != "" {
			args = append(args, "--network", c.mode)
		}
		if _, err := output(l.asUser(append(args, "localhost/bench:1", "sleep", "100000")...)...); err != nil {
			return nil, err
		}
		pid, err := output(l.asUser("inspect", "-f", "{{.State.Pid}}", "u"+strconv.Itoa(i))...)
		if err != nil {
			return nil, err
		}
		if err := l.serve(pid); err != nil {
			return nil, err
		}
		ways = append(ways,
			&way{name: c.name, inside: pid, address: "198.51.100.2"},
			&way{name: c.name + ", received", inside: pid, address: "198.51.100.2", reverse: true},
			&way{name: c.name + ", published", inside: l.outside, address: "198.51.100.1", port: port})
	}
	// Compared with what is there.
	return append(ways,
		&way{name: hull, base: slirp, limit: 1.4}, &way{name: hull, base: pasta, limit: 0.75},
		&way{name: hull + ", received", base: slirp + ", received"}, &way{name: hull + ", received", base: pasta + ", received"},
		&way{name: hull + ", published", base: pasta + ", published", limit: 0.6}), nil
}

// measure runs iperf3 once; a way without a namespace only compares.
func (w *way) measure() {
	if w.inside == "" {
		return
	}
	argv := []string{"iperf3", "-c", w.address, "-t", throughputSeconds, "-J"}
	if w.port != "" {
		argv = append(argv, "-p", w.port)
	}
	if w.reverse {
		argv = append(argv, "-R")
	}
	var err error
	for range 20 { // a server says goodbye to the one before
		var g, per float64
		if g, per, err = iperf(in(w.inside, argv...)); err == nil {
			w.gbits, w.perCPU = append(w.gbits, g), append(w.perCPU, per)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.fails++
	fmt.Printf("throughput: %s: %v\n", w.name, err)
}

// iperf is what arrived, in Gbit/s, and by each second that one processor
// worked in the two iperf3. The second is what to look at on a busy machine.
func iperf(argv []string) (gbits, perCPU float64, err error) {
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	var r struct {
		Error string
		End   struct {
			Received struct {
				Bits float64 `json:"bits_per_second"`
			} `json:"sum_received"`
			Percent struct {
				Here  float64 `json:"host_total"`
				There float64 `json:"remote_total"`
			} `json:"cpu_utilization_percent"`
		}
	}
	if json.Unmarshal(out, &r) == nil && r.Error != "" {
		return 0, 0, errors.New(r.Error)
	}
	gbits = r.End.Received.Bits / 1e9
	return gbits, gbits * 100 / max(r.End.Percent.Here+r.End.Percent.There, 1), err
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

func printWays(ways []*way) {
	fmt.Printf("throughput: one stream through iperf3 (median of %d, %s s each)\n", throughputRounds, throughputSeconds)
	medians, perCPU := map[string]float64{}, map[string]float64{}
	for _, w := range ways {
		if w.inside == "" {
			continue
		}
		medians[w.name] = median(w.gbits)
		fmt.Printf("  %-32s %8.2f Gbit/s", w.name, medians[w.name])
		if w.kernel {
			perCPU[w.name] = median(w.perCPU)
			fmt.Printf("   %8.2f Gbit a second of a processor", perCPU[w.name])
		}
		fmt.Println()
	}
	for _, w := range ways {
		base, ok := medians[w.base]
		if !ok || base == 0 {
			continue
		}
		note := ""
		if p := perCPU[w.base]; p > 0 {
			note = fmt.Sprintf("   by processor time x %.2f", perCPU[w.name]/p)
		}
		if w.limit > 0 {
			note += fmt.Sprintf("   budget %.2f", w.limit)
		}
		fmt.Printf("  %-32s x %6.2f of %s%s\n", w.name, medians[w.name]/base, w.base, note)
	}
	fmt.Println()
}
