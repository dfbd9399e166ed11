package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A life is how long one lifecycle took: by the clock, and of the processors.
// The second says more where others use the machine as well, and what a
// program that has no store took meanwhile says how much of that is theirs:
// who shares caches makes everybody slower.
type life struct{ wall, cpu, yardstick time.Duration }

// batch is how many lifecycles are compared: the first against the last.
const batch = 1000

// lives runs the lifecycles, looks at the machine after each thousand, and
// returns what grew.
func (s *soak) lives() ([]string, error) {
	fmt.Printf("lifecycles: %d, %d at once, one in %d killed, seed %d\n", s.runs, s.workers, s.kills, s.seed)
	if out, err := s.command("run", "-d", "--name", "stays", "--network", net, image, "sleep", "1000000").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run the container that stays: %w: %s", err, out)
	}
	n := min(batch, s.runs)
	var samples []sample
	var took [][]life
	var failed, killed atomic.Int64
	for done := 0; done < s.runs; done += n {
		took = append(took, s.batch(done, min(n, s.runs-done), &failed, &killed))
		if out, err := s.command("system", "prune", "-f").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("prune: %w: %s", err, out)
		}
		sm, err := s.look()
		if err != nil {
			return nil, err
		}
		samples = append(samples, sm)
		w, c := median(took[len(took)-1])
		fmt.Printf("%6d  %v, %v of the processors each, the yardstick %v; %s; %d killed, %d failed\n", done+len(took[len(took)-1]), w.Round(time.Millisecond), c.Round(10*time.Microsecond),
			yardstick(took[len(took)-1]).Round(10*time.Microsecond), sm, killed.Load(), failed.Load())
	}
	grown := grew(samples)
	fw, fc := median(took[0])
	lw, lc := median(took[len(took)-1])
	fy, ly := yardstick(took[0]), yardstick(took[len(took)-1])
	ratio := float64(lc) / float64(fc) / (float64(ly) / float64(fy))
	fmt.Printf("last %d against first %d: %.2f by the clock, %.2f of the processors, the yardstick %.2f: %.2f (limit 1.1)\n", n, n, float64(lw)/float64(fw), float64(lc)/float64(fc),
		float64(ly)/float64(fy), ratio)
	if !(ratio <= 1.1) {
		grown = append(grown, fmt.Sprintf("time of a lifecycle: %v to %v of the processors, of the yardstick %v to %v", fc, lc, fy, ly))
	}
	if failed.Load() > 0 {
		grown = append(grown, fmt.Sprintf("%d lifecycles failed", failed.Load()))
	}
	return grown, nil
}

func (s *soak) batch(first, n int, failed, killed *atomic.Int64) []life {
	var mu sync.Mutex
	var all []life
	var next atomic.Int64
	var wg sync.WaitGroup
	for range s.workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				l, wasKilled, err := s.life(first + i)
				switch {
				case err != nil:
					failed.Add(1)
					fmt.Fprintf(os.Stderr, "lifecycle %d: %v\n", first+i, err)
				case wasKilled:
					killed.Add(1)
				}
				mu.Lock()
				if l.wall > 0 && !wasKilled {
					all = append(all, l)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}

// life is one container's: create, start, exec, rm. Of some, a command or the
// monitor or the container's program is killed at a random moment; then only
// the removal has to succeed.
func (s *soak) life(i int) (l life, killed bool, err error) {
	random := rand.New(rand.NewPCG(s.seed, uint64(i)))
	name, network := fmt.Sprintf("s%d", i), "none"
	if i%2 == 1 {
		network = net
	}
	steps := [][]string{
		{"create", "--name", name, "--network", network, image, "sleep", "1000000"},
		{"start", name},
		{"exec", name, "echo", "here"},
		{"rm", "-f", "-t", "0", name},
	}
	if i%20 == 0 {
		steps[2][1] = "stays"
	}
	victim := -1
	if s.kills > 0 && random.IntN(s.kills) == 0 {
		victim = random.IntN(len(steps))
	}
	begin := time.Now()
	for n, args := range steps {
		after := time.Duration(0)
		if n == victim {
			killed, after = true, time.Duration(random.Int64N(int64(40*time.Millisecond)))
		}
		cpu, err := s.step(args, after)
		l.cpu += cpu
		if err != nil && !killed {
			return l, false, err
		}
		if killed && n == 1 && random.IntN(2) == 0 {
			s.killOne(name, random)
		}
	}
	if killed {
		if _, err := s.step([]string{"rm", "-f", "-i", "-t", "0", name}, 0); err != nil {
			return l, true, fmt.Errorf("after a kill: %w", err)
		}
	}
	l.wall = time.Since(begin)
	if i%5 == 2 {
		l.yardstick = s.measure()
	}
	return l, killed, nil
}

// measure is the processors' time of a program in namespaces of its own that
// opens no store: nothing that a store holds can make it longer.
func (s *soak) measure() time.Duration {
	c := exec.Command(s.bin, "--version")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS}
	if c.Run() != nil {
		return 0
	}
	return c.ProcessState.UserTime() + c.ProcessState.SystemTime()
}

// yardstick is the median of a batch's measures.
func yardstick(all []life) time.Duration {
	var m []time.Duration
	for _, l := range all {
		if l.yardstick > 0 {
			m = append(m, l.yardstick)
		}
	}
	if len(m) == 0 {
		return 0
	}
	slices.Sort(m)
	return m[len(m)/2]
}

// step runs one command, or kills it after that time.
func (s *soak) step(args []string, kill time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	c := s.command(args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { c.Process.Kill() })()
	if kill > 0 {
		defer time.AfterFunc(kill, func() { c.Process.Kill() }).Stop()
	}
	err := c.Wait()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out.String())
	}
	return c.ProcessState.UserTime() + c.ProcessState.SystemTime(), err
}

// killOne kills the monitor or the program of a container.
func (s *soak) killOne(name string, random *rand.Rand) {
	field := []string{"{{.State.Pid}}", "{{.State.ConmonPid}}"}[random.IntN(2)]
	out, err := s.command("inspect", "--format", field, name).Output()
	if err != nil {
		return
	}
	var pid int
	if _, err := fmt.Sscan(string(out), &pid); err != nil || pid <= 1 || !s.owns(pid) {
		return
	}
	syscall.Kill(pid, syscall.SIGKILL)
}

// owns makes sure that a process is one of this store.
func (s *soak) owns(pid int) bool {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return strings.HasPrefix(exe, s.dir) || strings.TrimSpace(string(comm)) == "sleep" && exe == "/bin/busybox"
}

func median(all []life) (wall, cpu time.Duration) {
	if len(all) == 0 {
		return 0, 0
	}
	slices.SortFunc(all, func(a, b life) int { return int(a.wall - b.wall) })
	wall = all[len(all)/2].wall
	slices.SortFunc(all, func(a, b life) int { return int(a.cpu - b.cpu) })
	return wall, all[len(all)/2].cpu
}
