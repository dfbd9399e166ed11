package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/hack/stepper"
)

// A command that is killed at any of its calls leaves nothing that the next
// one does not complete or take away: alone or with all that it started.
// A sample by default; make crash takes every point. CRASH_ONLY is a regular
// expression of commands, CRASH_AT one point, CRASH_SHARD=i/n a share,
// CRASH_SEED repeats a sample, CRASH_TRACE=1 prints the points.
func TestF01F04F07F09F10F50F70F71KilledAtEveryCall(t *testing.T) {
	crashPoints(t, stepper.Writes, stepper.KillProcess, stepper.KillTree)
}

// A call that fails, with each error that it may have, makes the command fail
// with one clear error and nothing half done, or not at all. What a sync that
// failed was to save is lost, as a disk may lose it. CRASH_ERRNO=1, 2… takes
// only the first, second… error of each call, CRASH_ERRNO=-1 one, another at
// each point.
func TestF28F34F35F36FailedAtEveryCall(t *testing.T) {
	crashPoints(t, stepper.Writes, stepper.Fail)
}

// So does one that only looks: what could not be read is not taken for absent.
func TestF33F35F36ReadFailedAtEveryCall(t *testing.T) {
	crashPoints(t, stepper.Reads, stepper.Fail)
}

// crashSample is how many points CI takes of each test.
const crashSample = 20

func crashPoints(t *testing.T, set stepper.Set, actions ...stepper.Action) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: ptrace, mounts and namespaces")
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs Debian's busybox-static")
	}
	workers, sample := crashWorkers(), crashSample
	if os.Getenv("CRASH_FULL") != "" || os.Getenv("CRASH_ONLY") != "" {
		sample = 0
	}
	if sample > 0 {
		t.Skip("make crash takes every point")
	}
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("CRASH_SEED"), 10, 64); err == nil {
		seed = n
	}
	at, _ := strconv.Atoi(os.Getenv("CRASH_AT"))
	errno, _ := strconv.Atoi(os.Getenv("CRASH_ERRNO"))
	if at > 0 {
		workers = 1
	}
	shard, shards := 0, 1
	if text := os.Getenv("CRASH_SHARD"); text != "" {
		if _, err := fmt.Sscanf(text, "%d/%d", &shard, &shards); err != nil || shard < 1 || shard > shards {
			t.Fatalf("CRASH_SHARD=%s: want i/n, from 1", text)
		}
		shard--
	}
	t.Logf("seed %d", seed)
	hull := crashBinaries(t)
	dir, err := os.MkdirTemp("", "hull-crash-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var run []*exec.Cmd
	for i := range workers {
		o := crashOrder{Dir: filepath.Join(dir, strconv.Itoa(i)), Hull: hull, Index: shard*workers + i, Of: shards * workers, Actions: actions, Set: set, Errno: errno,
			Only: os.Getenv("CRASH_ONLY"), At: at, Sample: (sample + workers - 1) / workers, Seed: seed, ReportsFile: filepath.Join(dir, "reports."+strconv.Itoa(i))}
		if sample == 0 {
			o.Sample = 0
		}
		run = append(run, startWorker(t, o))
	}
	for i, c := range run {
		if err := c.Wait(); err != nil {
			t.Errorf("worker %d: %v\n%s", i, err, c.Stderr)
		}
	}
	sumUp(t, dir, workers)
}

// crashBinaries builds what the harness does not.
func crashBinaries(t *testing.T) string {
	built = true
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(bin, "libexec/hull/hull-full"), "hull/cmd/hull-full")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build hull-full: %v\n%s", err, out)
	}
	return filepath.Join(bin, "hull")
}

// startWorker starts a worker in namespaces of its own; they end with it.
func startWorker(t *testing.T, o crashOrder) *exec.Cmd {
	if err := os.Mkdir(o.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	order, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/proc/self/exe", crashInit, string(order))
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC, Pdeathsig: syscall.SIGKILL}
	c.Stderr = &bytes.Buffer{}
	if os.Getenv("CRASH_TRACE") != "" {
		c.Stderr = os.Stderr
	}
	if err := c.Start(); err != nil {
		t.Fatalf("start a worker: %v", err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	return c
}

// sumUp prints the points and failures of each command, and in sum.
func sumUp(t *testing.T, dir string, workers int) {
	type sum struct{ points, unharmed, failures int }
	sums, order, errnos := map[string]*sum{}, []string{}, map[string]*sum{}
	all := sum{}
	for i := range workers {
		f, err := os.Open(filepath.Join(dir, "reports."+strconv.Itoa(i)))
		if err != nil {
			t.Error(err)
			continue
		}
		defer f.Close()
		in := bufio.NewScanner(f)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			var r crashReport
			if err := json.Unmarshal(in.Bytes(), &r); err != nil {
				t.Error(err)
				continue
			}
			key := r.Case + ", " + r.Action
			s := sums[key]
			if s == nil {
				s = &sum{}
				sums[key] = s
				order = append(order, key)
			}
			e := errnos[r.Errno]
			if e == nil {
				e = &sum{}
				errnos[r.Errno] = e
			}
			for _, s := range []*sum{s, &all, e} {
				if s.points++; !r.Hit {
					s.points, s.unharmed = s.points-1, s.unharmed+1
				}
				if len(r.Problems) > 0 {
					s.failures++
				}
			}
			if len(r.Problems) > 0 {
				t.Errorf("%s at %s:\n\t%s", key, r.Point, strings.Join(r.Problems, "\n\t"))
			}
		}
	}
	for _, key := range order {
		t.Logf("%-28s %4d points, %2d unharmed, %2d failures", key, sums[key].points, sums[key].unharmed, sums[key].failures)
	}
	for _, name := range slices.Sorted(maps.Keys(errnos)) {
		if name != "" {
			t.Logf("%-28s %4d points, %2d failures", name, errnos[name].points, errnos[name].failures)
		}
	}
	t.Logf("in sum: %d points tried, %d times unharmed, failures %d", all.points, all.unharmed, all.failures)
}

// crashWorkers is one a processor: CRASH_WORKERS says otherwise.
func crashWorkers() int {
	if n, err := strconv.Atoi(os.Getenv("CRASH_WORKERS")); err == nil && n > 0 {
		return n
	}
	return runtime.NumCPU()
}
