package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// endsIn runs hull, which must end by itself in time and not panic. It may fail.
func (m *machine) endsIn(limit time.Duration, args ...string) result {
	m.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := m.command(args...)
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	begin := time.Now()
	if err := c.Start(); err != nil {
		m.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { c.Process.Kill() })
	c.Wait()
	if took := time.Since(begin); took > 3*time.Second {
		m.Logf("hull %q took %v", args, took)
	}
	if !stop() {
		m.Errorf("hull %q did not end in %v", args, limit)
	}
	if strings.Contains(errs.String(), "goroutine ") || strings.Contains(errs.String(), "panic:") {
		m.Errorf("hull %q: %s", args, errs.String())
	}
	return result{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// stateFiles are the small files of a store: records, names, states.
func (m *machine) stateFiles() []string {
	m.Helper()
	var out []string
	for _, root := range []string{m.root(), m.runRoot()} {
		filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if d.IsDir() && (d.Name() == "snapshots" || d.Name() == "_data" || d.Name() == "locks") {
				return filepath.SkipDir
			}
			if fi, err := d.Info(); err == nil && fi.Mode().IsRegular() && fi.Size() > 0 && fi.Size() < 64<<10 {
				out = append(out, path)
			}
			return nil
		})
	}
	return out
}

// F21: each file of the state is torn, zeroed, cut to nothing, and has bits
// turned over: no command panics or spins, those that show other kinds of
// objects work, and when the file is whole again all is as before.
func TestF21DamagedState(t *testing.T) {
	m := newMachine(t, "")
	m.ok("volume", "create", "v")
	m.ok("network", "create", "damaged")
	m.ok("pod", "create", "--name", "p", "--network", "none")
	t.Cleanup(func() { m.run("pod", "rm", "-f", "p"); m.run("network", "rm", "damaged") })
	if c := m.command("secret", "create", "s", "-"); true {
		c.Stdin = strings.NewReader("quiet")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("secret create: %v %s", err, out)
		}
	}
	m.ok("run", "-d", "--name", "runs", "--network", "none", "localhost/fx:1", "sleep", "1000")
	m.ok("create", "--name", "made", "--network", "none", "-v", "v:/v", "localhost/fx:1", "true")
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 21))
	t.Logf("seed %d", seed)
	looks := map[string][]string{"containers": {"ps", "-a", "-q"}, "images": {"images", "-q"}, "volumes": {"volume", "ls", "-q"}, "networks": {"network", "ls", "-q"}, "pods": {"pod", "ps", "-q"}, "secrets": {"secret", "ls", "-q"}}
	before := map[string]string{}
	for kind, args := range looks {
		before[kind] = m.ok(args...)
	}
	files := m.stateFiles()
	t.Logf("%d files", len(files))
	rounds := count(t, "HULL_DAMAGES", 1)
	for _, file := range files {
		whole, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		fi, _ := os.Stat(file)
		ways := [][]byte{{}, whole[:len(whole)/2], make([]byte, len(whole))}
		for range rounds {
			flipped := append([]byte{}, whole...)
			flipped[random.IntN(len(whole))] ^= 1 << random.IntN(8)
			ways = append(ways, flipped)
		}
		rel := strings.TrimPrefix(file, m.dir+"/")
		for i, damaged := range ways {
			if rounds == 1 && i != random.IntN(len(ways)) {
				continue // a sample, in CI
			}
			os.WriteFile(file, damaged, fi.Mode().Perm())
			for kind, args := range looks {
				r := m.endsIn(10*time.Second, args...)
				if own := strings.Contains(rel, strings.TrimSuffix(kind, "s")) || kind == "pods" || kind == "containers" && strings.Contains(rel, "pod"); !own && (r.code != 0 || strings.TrimSpace(r.out) != before[kind]) {
					t.Errorf("%s damaged (way %d): hull %q: exit code %d\n%s%s", rel, i, args, r.code, r.out, r.errOut)
				}
			}
			m.endsIn(10*time.Second, "inspect", "made", "runs")
			m.endsIn(20*time.Second, "system", "check")
		}
		os.WriteFile(file, whole, fi.Mode().Perm())
	}
	for kind, args := range looks {
		if now := m.ok(args...); now != before[kind] {
			t.Errorf("%s, after all: %q, before %q", kind, now, before[kind])
		}
	}
	m.ok("secret", "rm", "s")
	m.ok("pod", "rm", "-f", "p")
	m.ok("network", "rm", "damaged")
	m.ok("rm", "made")
	m.ok("volume", "rm", "v")
}

// F23: 64 writers at once, on objects of their own and of all: none fails, and
// there is no database that could be locked. F22: the store is clean after it.
func TestF22F23ManyWriters(t *testing.T) {
	m := newMachine(t, "")
	m.ok("volume", "create", "all")
	rounds := count(t, "HULL_CHURN", 1)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for n := range rounds {
				name := fmt.Sprintf("w%d-%d", i, n)
				for _, args := range [][]string{
					{"create", "--name", name, "--network", "none", "-v", "all:/all", "localhost/fx:1", "true"},
					{"tag", "localhost/fx:1", "localhost/" + name + ":1"}, {"volume", "create", name}, {"rename", name, name + "x"},
					{"rmi", "localhost/" + name + ":1"}, {"volume", "rm", name}, {"rm", name + "x"},
				} {
					if r := m.endsIn(2*time.Minute, args...); r.code != 0 || r.errOut != "" {
						t.Errorf("hull %q: exit code %d: %s", args, r.code, r.errOut)
					}
				}
			}
		})
	}
	wg.Wait()
	m.ok("volume", "rm", "all")
	m.equal("", "system", "check")
}

// F24: another program holds flocks on every file of the state: what looks, and
// what changes, works on.
func TestF24LockedByOthers(t *testing.T) {
	m := newMachine(t, "")
	m.ok("run", "--name", "ended", "--network", "none", "localhost/fx:1", "echo", "said")
	m.ok("volume", "create", "v")
	for _, file := range m.stateFiles() {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		defer f.Close()
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			t.Errorf("lock %s: %v", file, err)
		}
	}
	for _, args := range [][]string{{"ps", "-a"}, {"images"}, {"volume", "ls"}, {"inspect", "ended"}, {"logs", "ended"}, {"info"}, {"system", "df"}, {"network", "ls"}, {"events", "--stream=false"},
		{"run", "--rm", "--network", "none", "localhost/fx:1", "true"}, {"start", "ended"}, {"rm", "-f", "ended"}, {"volume", "rm", "v"}} {
		if r := m.endsIn(30*time.Second, args...); r.code != 0 {
			t.Errorf("hull %q with all files locked: exit code %d: %s", args, r.code, r.errOut)
		}
	}
}

// F38: a command that holds a lock is stopped: who needs the lock is told, and
// by whom it is held. When the holder is killed, the lock is free.
func TestF38HolderStopped(t *testing.T) {
	m := newMachine(t, "")
	m.ok("volume", "create", "v")
	holder := m.command("volume", "import", "v", "-")
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); holder.Process.Kill(); holder.Wait() }()
	m.eventually("the volume's lock is held", func() bool {
		locks, _ := filepath.Glob(m.runRoot() + "/locks/volume-v")
		return len(locks) > 0
	})
	holder.Process.Signal(syscall.SIGSTOP)
	begin := time.Now()
	r := m.endsIn(60*time.Second, "volume", "rm", "v")
	if r.code == 0 || !strings.Contains(r.errOut, strconv.Itoa(holder.Process.Pid)) || !strings.Contains(r.errOut, "stopped") {
		t.Errorf("after %v: exit code %d, want an error that names process %d: %s", time.Since(begin), r.code, holder.Process.Pid, r.errOut)
	}
	if r := m.endsIn(10*time.Second, "volume", "ls", "-q"); r.code != 0 || strings.TrimSpace(r.out) != "v" {
		t.Errorf("volume ls: exit code %d: %s%s", r.code, r.out, r.errOut)
	}
	holder.Process.Kill()
	holder.Wait()
	m.ok("volume", "rm", "v")
}

// F39: verbs that need several locks, in any mixture: all end.
func TestF39MixedVerbs(t *testing.T) {
	m := newMachine(t, "")
	workers, each := 8, count(t, "HULL_MIXED", 12)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	file := filepath.Join(m.dir, "tmp", "file")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	verbs := [][]string{
		{"pod", "create", "--name", "P", "--network", "none"}, {"create", "--name", "C", "--pod", "P", "-v", "V:/v", "localhost/fx:1", "sleep", "5"}, {"create", "--name", "C", "-v", "V:/v", "localhost/fx:1", "true"},
		{"ps", "-a", "--pod"}, {"pod", "ps"}, {"volume", "ls"}, {"volume", "rm", "V"}, {"cp", file, "C:/v/x"}, {"pod", "start", "P"}, {"pod", "rm", "-f", "-t", "0", "P"}, {"rm", "-f", "-t", "0", "C"},
		{"volume", "prune", "-a", "-f"}, {"container", "prune", "-f"}, {"pod", "prune", "-f"}, {"start", "C"}, {"rename", "C", "D"}, {"stop", "-t", "0", "C"}, {"system", "df"},
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			for range each {
				verb := append([]string{}, verbs[random.IntN(len(verbs))]...)
				for i, a := range verb {
					for _, k := range []string{"P", "C", "D", "V"} {
						if a == k || strings.HasPrefix(a, k+":/") {
							verb[i] = strings.ToLower(k) + strconv.Itoa(random.IntN(2)) + strings.TrimPrefix(a, k)
						}
					}
				}
				if r := m.endsIn(2*time.Minute, verb...); strings.Contains(r.errOut, "locked") {
					t.Errorf("hull %q: %s", verb, r.errOut)
				}
			}
		})
	}
	wg.Wait()
	m.run("pod", "rm", "-af", "-t", "0")
	m.run("rm", "-af", "-t", "0")
	m.run("volume", "prune", "-a", "-f")
	if r := m.run("system", "check"); r.code != 0 {
		t.Errorf("system check: %s%s", r.out, r.errOut)
	}
}

// F73: what a thousand lives leave is what one leaves: make soak has twenty
// thousand, with kills, and measures memory and time.
func TestF73NothingGrows(t *testing.T) {
	m := newMachine(t, "")
	life := func(n int) {
		for i := range n {
			name := "life" + strconv.Itoa(i)
			m.ok("run", "-d", "--name", name, "localhost/fx:1", "sleep", "1000")
			m.ok("exec", name, "true")
			m.ok("rm", "-f", "-t", "0", name)
		}
	}
	look := func() map[string]int {
		seen := map[string]int{}
		for _, root := range []string{m.root(), m.runRoot(), filepath.Join(m.dir, "tmp")} {
			filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
				seen["files below "+filepath.Base(root)]++
				return nil
			})
		}
		mounts, _ := os.ReadFile("/proc/self/mountinfo")
		seen["mounts"] = strings.Count(string(mounts), m.dir)
		groups, _ := filepath.Glob("/sys/fs/cgroup/*/hull/hull-*")
		own := 0
		events, _ := os.ReadFile(filepath.Join(m.runRoot(), "events"))
		for _, g := range groups {
			if strings.Contains(string(events), strings.TrimPrefix(filepath.Base(g), "hull-")) {
				own++
			}
		}
		seen["cgroups"] = own
		return seen
	}
	life(3)
	before := look()
	life(count(t, "HULL_LIVES", 12))
	m.eventually("nothing has grown", func() bool { return fmt.Sprint(look()) == fmt.Sprint(before) })
}
