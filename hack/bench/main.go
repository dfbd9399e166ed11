// Bench runs Hull, the kernel's own floor and the peers that are installed in
// turn, so that a noisy machine slows all alike, and prints medians and their
// ratio to the first of each group.
//
//	make bench                     every group but pull, throughput, build and log, which take minutes
//	go run ./hack/bench start exec the named ones: build is build-steps,
//	                               build-tree and build-packages
//
// It works in a store of its own below a temporary directory, which it
// removes.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"syscall"
	"time"
)

// A contender is one command of a group; the first of a group is what the
// others are compared with.
type contender struct {
	name  string
	argv  []string
	times []time.Duration
	busy  []time.Duration // processor time, where the group has a place
	fails int
	// before puts back what a run needs to be the first one.
	before func()
}

// A group is measured together.
type group struct {
	name, about string
	rounds      int
	// limit is the greatest ratio of the second contender to the first, by the
	// design's budget; 0 none.
	limit float64
	list  []*contender
	place *place // nil: processor time is not counted
	// after runs once the group is done.
	after func()
}

func main() {
	if size := os.Getenv(heapMark); size != "" {
		startWithHeap(size)
		return
	}
	again, err := inPrivateMounts()
	if again {
		return
	}
	var b *bench
	if err == nil {
		b, err = setUp()
	}
	if err == nil {
		err = b.run(os.Args[1:])
	}
	if b != nil {
		b.cleanUp()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// inPrivateMounts runs the program again in a mount namespace of its own, so
// that what is hidden from the peers is hidden from them alone. It says
// whether it did.
func inPrivateMounts() (bool, error) {
	const mark = "HULL_BENCH_MOUNTS"
	if os.Getenv(mark) != "" || os.Geteuid() != 0 {
		return false, nil
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), mark+"=private")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	runtime.LockOSThread()
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); ok {
		os.Exit(cmd.ProcessState.ExitCode())
	}
	return true, err
}

// A bench is the place that everything is measured in.
type bench struct {
	dir, rootfs, bin string
	notes            []string
	undo             []func()
}

func (b *bench) cleanUp() {
	for _, f := range slices.Backward(b.undo) {
		f()
	}
	os.RemoveAll(b.dir)
}

// setUp makes a root file system of busybox, the floor, and a store with an
// image of the same files.
func setUp() (*bench, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("needs root: the floor and the peers make namespaces and mounts")
	}
	bin, err := filepath.Abs("bin")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hull-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{dir: dir, rootfs: filepath.Join(dir, "rootfs"), bin: bin}
	if err := b.makeRoomForPeers(); err != nil {
		return b, err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	go func() { <-stop; b.cleanUp(); os.Exit(130) }()
	steps := [][]string{
		{"sh", "-c", "cd " + b.rootfs + " && cp /bin/busybox bin/ && for a in sh true sleep ls cat echo id; do ln -s busybox bin/$a; done && echo root:x:0:0::/:/bin/sh > etc/passwd"},
		{"cc", "-O2", "-o", filepath.Join(dir, "floor"), "hack/floor.c"},
		{"tar", "-C", b.rootfs, "-cf", filepath.Join(dir, "rootfs.tar"), "."},
	}
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc", "tmp", "run"} {
		if err := os.MkdirAll(filepath.Join(b.rootfs, d), 0o755); err != nil {
			return b, err
		}
	}
	for _, s := range steps {
		if out, err := exec.Command(s[0], s[1:]...).CombinedOutput(); err != nil {
			return b, fmt.Errorf("%s: %w: %s", s[0], err, out)
		}
	}
	if out, err := b.command(b.hull("import", "--change", "CMD [\"/bin/sh\"]", filepath.Join(dir, "rootfs.tar"), "localhost/bench:1")).CombinedOutput(); err != nil {
		return b, fmt.Errorf("import the image: %w: %s", err, out)
	}
	return b, nil
}

// makeRoomForPeers gives the peers what they need on a machine that is not
// theirs: crun refuses hybrid cgroups, and podman asks for limits that a
// privileged process alone may raise.
func (b *bench) makeRoomForPeers() error {
	if syscall.Unmount("/sys/fs/cgroup/unified", 0) == nil {
		b.notes = append(b.notes, "the hybrid cgroup v2 tree is hidden from all, for crun")
	}
	// /run is a tmpfs wherever there is an init; here it may be on the disk.
	for _, run := range []string{"run", "podman-run"} {
		dir := filepath.Join(b.dir, run)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount a tmpfs for run directories: %w", err)
		}
		b.undo = append(b.undo, func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	}
	conf := filepath.Join(b.dir, "containers.conf")
	limits := "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n"
	if err := os.WriteFile(conf, []byte(limits), 0o600); err != nil {
		return err
	}
	return os.Setenv("CONTAINERS_CONF", conf)
}

func (b *bench) command(argv []string) *exec.Cmd { return exec.Command(argv[0], argv[1:]...) }

// hull is a command line of the binary under test on the bench's own store.
func (b *bench) hull(args ...string) []string {
	return append([]string{filepath.Join(b.bin, "hull"), "--root", filepath.Join(b.dir, "root"), "--runroot", filepath.Join(b.dir, "run")}, args...)
}

func (b *bench) run(names []string) error {
	groups := []struct {
		name   string
		make   func() (*group, error)
		onlyBy bool // its name
	}{
		{"version", b.version, false}, {"start", b.start, false}, {"bridge", b.bridge, false}, {"bundle", b.bundle, false},
		{"life", b.life, false}, {"waiting", b.waiting, false}, {"heap", b.heap, false},
		{"pod", b.pod, false}, {"podcreate", b.podCreate, false},
		{"exec", b.exec, false}, {"ps", b.ps, false}, {"memory", b.memory, false}, {"throughput", b.throughput, true}, {"pull", b.pull, true}, {"build", b.build, true}, {"log", b.log, true},
		{"build-steps", b.buildSteps, true}, {"build-tree", b.buildTree, true}, {"build-packages", b.buildPackages, true},
	}
	for _, n := range b.notes {
		fmt.Println("note:", n)
	}
	for _, entry := range groups {
		if !slices.Contains(names, entry.name) && (len(names) > 0 || entry.onlyBy) {
			continue
		}
		g, err := entry.make()
		if err != nil {
			return err
		}
		if g == nil {
			continue // it has printed what it measured
		}
		g.measure()
		g.print()
		if g.after != nil {
			g.after()
		}
	}
	return nil
}

// measure runs the group's commands in turn, one round to warm up.
func (g *group) measure() {
	for round := range g.rounds + 1 {
		for _, c := range g.list {
			if c.before != nil {
				c.before()
			}
			took, busy, err := g.once(c.argv)
			if err != nil {
				c.fails++
			}
			if round > 0 {
				c.times, c.busy = append(c.times, took), append(c.busy, busy)
			}
		}
	}
}

// once runs a command and says how long it took, and how long processors were
// busy with it.
func (g *group) once(argv []string) (took, busy time.Duration, err error) {
	before := time.Duration(0)
	if g.place != nil {
		argv = g.place.in(argv)
		if before, err = g.place.busy(); err != nil {
			return 0, 0, err
		}
	}
	begin := time.Now()
	err = exec.Command(argv[0], argv[1:]...).Run()
	took = time.Since(begin)
	if g.place != nil {
		after, uerr := g.place.busy()
		return took, after - before, errors.Join(err, uerr)
	}
	return took, 0, err
}

func (c *contender) at(share float64) time.Duration { return quantile(c.times, share) }

func quantile(t []time.Duration, share float64) time.Duration {
	t = slices.Clone(t)
	sort.Slice(t, func(i, j int) bool { return t[i] < t[j] })
	return t[int(share*float64(len(t)-1))]
}

func (g *group) print() {
	fmt.Printf("%s: %s (median of %d)\n", g.name, g.about, g.rounds)
	base, busy := g.list[0].at(0.5), quantile(g.list[0].busy, 0.5)
	for i, c := range g.list {
		m := c.at(0.5)
		note := ""
		if c.fails > 0 {
			note = fmt.Sprintf("   %d of %d FAILED", c.fails, g.rounds+1)
		}
		if i == 1 && g.limit > 0 {
			note += fmt.Sprintf("   budget %.1f", g.limit)
		}
		if g.place != nil {
			u := quantile(c.busy, 0.5)
			note += fmt.Sprintf("   processors %.2f ms x %.2f", ms(u), float64(u)/float64(busy))
		}
		fmt.Printf("  %-28s %8.2f ms  min %8.2f  p90 %8.2f   x %6.2f%s\n", c.name, ms(m), ms(c.at(0)), ms(c.at(0.9)), float64(m)/float64(base), note)
	}
	fmt.Println()
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// installed returns the path of a program, empty when it is not there.
func installed(name string) string {
	p, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return p
}

func (g *group) add(name string, argv ...string) {
	g.list = append(g.list, &contender{name: name, argv: argv})
}

// addPeer adds a program that may be missing.
func (g *group) addPeer(name, program string, args ...string) {
	if p := installed(program); p != "" {
		g.add(name, append([]string{p}, args...)...)
	}
}

func (b *bench) version() (*group, error) {
	src := filepath.Join(b.dir, "empty.go")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		return nil, err
	}
	empty := filepath.Join(b.dir, "empty")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", empty, src)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the empty program: %w: %s", err, out)
	}
	g := &group{name: "version", about: "start of the program", rounds: 60}
	g.add("an empty Go program", empty)
	g.add("hull version", b.hull("version")...)
	g.addPeer("podman version", "podman", "version")
	return g, nil
}

func (b *bench) start() (*group, error) {
	g := &group{name: "start", about: "a container without a network, to its end", rounds: 60, limit: 2}
	g.add("floor", filepath.Join(b.dir, "floor"), b.rootfs, "/bin/true")
	g.add("hull run --network none", b.hull("run", "--rm", "--network", "none", "localhost/bench:1", "true")...)
	g.addPeer("podman run --network none", "podman", "--root", filepath.Join(b.dir, "podman"), "--runroot", filepath.Join(b.dir, "podman-run"), "run", "--rm", "--network", "none", "--rootfs", b.rootfs, "true")
	return g, nil
}

func (b *bench) bridge() (*group, error) {
	g := &group{name: "bridge", about: "a container on the default bridge, to its end", rounds: 60, limit: 3}
	g.add("floor", filepath.Join(b.dir, "floor"), b.rootfs, "/bin/true")
	g.add("hull run", b.hull("run", "--rm", "localhost/bench:1", "true")...)
	return g, nil
}

func (b *bench) exec() (*group, error) {
	if out, err := b.command(b.hull("run", "-d", "--name", "target", "localhost/bench:1", "sleep", "1000")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("start the container to exec in: %w: %s", err, out)
	}
	out, err := b.command(b.hull("inspect", "--format", "{{.State.Pid}}", "target")).Output()
	if err != nil {
		return nil, fmt.Errorf("inspect the container: %w", err)
	}
	remove := func() { b.command(b.hull("rm", "-f", "-t", "0", "target")).Run() }
	b.undo = append(b.undo, remove)
	g := &group{name: "exec", about: "one more program in a running container", rounds: 60, limit: 2, after: remove}
	g.add("nsenter", "nsenter", "-t", strings.TrimSpace(string(out)), "-m", "-u", "-i", "-n", "-p", "/bin/true")
	g.add("hull exec", b.hull("exec", "target", "true")...)
	return g, nil
}

func (b *bench) ps() (*group, error) {
	for i := range 100 {
		if out, err := b.command(b.hull("create", "--name", fmt.Sprint("c", i), "localhost/bench:1", "true")).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("create a container: %w: %s", err, out)
		}
	}
	g := &group{name: "ps", about: "100 containers listed", rounds: 60}
	g.add("an empty Go program", filepath.Join(b.dir, "empty"))
	g.add("hull ps -a", b.hull("ps", "-a")...)
	g.after = func() { b.command(b.hull("rm", "-af")).Run() }
	return g, nil
}
