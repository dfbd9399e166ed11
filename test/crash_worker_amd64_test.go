package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hull/hack/stepper"
)

// A crashOrder is what a worker is to do.
type crashOrder struct {
	Dir, Hull   string
	Index, Of   int // its share of the points
	Actions     []stepper.Action
	Set         stepper.Set
	Errno       int    // which of a call's errors, from 1; 0 is each, below 0 one, another at each point
	Only        string // a regular expression of cases
	At          int    // one point only; 0 is all
	Sample      int    // points taken at random, of all cases; 0 is all
	Seed        uint64
	ReportsFile string
}

// A crashReport is of one point; that of N 0 is of what the worker itself met.
type crashReport struct {
	Case, Action string
	Point        string
	Errno        string `json:",omitempty"`
	Hit          bool
	Took         int64    // milliseconds
	Said         string   // how the command ended, and what it said
	Problems     []string `json:",omitempty"`
}

const (
	crashInit   = "crash-init"
	crashWorker = "crash-worker"
)

// crashRole does what a process of this test binary was started for; false is nothing.
func crashRole() bool {
	if len(os.Args) < 2 {
		return false
	}
	switch os.Args[1] {
	case stepper.LaunchWord:
		fmt.Fprintln(os.Stderr, stepper.Launch(os.Args[2:]))
		os.Exit(127)
	case crashInit:
		os.Exit(beInit(os.Args[2:]))
	case crashWorker:
		if err := beWorker(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return true
	}
	return false
}

// beInit is process 1 of the worker's namespaces: it waits for whatever ends.
func beInit(args []string) int {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Fprintln(os.Stderr, "private mounts:", err)
		return 1
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Fprintln(os.Stderr, "mount /proc:", err)
		return 1
	}
	pid, err := syscall.ForkExec("/proc/self/exe", append([]string{os.Args[0], crashWorker}, args...), &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if got == pid || err != nil {
			return ws.ExitStatus()
		}
	}
}

func beWorker(order string) error {
	var o crashOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		return err
	}
	only, err := regexp.Compile("^(" + o.Only + ")$")
	if err != nil {
		return err
	}
	reports, err := os.OpenFile(o.ReportsFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	l, err := newLab(o.Dir, o.Hull)
	if err != nil {
		return err
	}
	w := &worker{lab: l, o: o, random: rand.New(rand.NewPCG(o.Seed, uint64(o.Index))), reports: json.NewEncoder(reports), alone: map[string]bool{}}
	defer l.run("rm", "-af", "-t", "0")
	var cases []crashCase
	for _, c := range crashCases() {
		if o.Only == "" || only.MatchString(c.name) {
			cases = append(cases, c)
		}
	}
	if o.Sample > 0 {
		return w.sample(cases)
	}
	for i := range cases {
		for _, a := range o.Actions {
			if err := w.all(&cases[i], a); err != nil {
				return err
			}
		}
	}
	return nil
}

type worker struct {
	*lab
	o       crashOrder
	random  *rand.Rand
	reports *json.Encoder
	// alone says of a case that no other process of it had a point: to kill
	// the tree is to kill that one.
	alone map[string]bool
}

// sample takes points at random.
func (w *worker) sample(cases []crashCase) error {
	for range w.o.Sample {
		c := &cases[w.random.IntN(len(cases))]
		if _, err := w.point(c, w.o.Actions[w.random.IntN(len(w.o.Actions))], 1+w.random.IntN(60), w.random.IntN(60)); err != nil {
			return err
		}
	}
	return nil
}

// all takes the worker's share of the points of a case, until the command ends unharmed.
func (w *worker) all(c *crashCase, a stepper.Action) error {
	if w.o.At > 0 {
		_, err := w.each(c, a, w.o.At)
		return err
	}
	if a == stepper.KillTree && w.alone[c.name] {
		return nil
	}
	for n, unharmed := 1+w.o.Index, 0; unharmed < 2; n += w.o.Of {
		hit, err := w.each(c, a, n)
		if err != nil {
			return err
		}
		if unharmed++; hit {
			unharmed = 0
		}
	}
	return nil
}

// each does point with each error that the call can be made to fail with.
func (w *worker) each(c *crashCase, a stepper.Action, n int) (hit bool, err error) {
	if w.o.Errno != 0 || a != stepper.Fail {
		choose := w.o.Errno - 1
		if w.o.Errno < 0 {
			choose = n - w.o.Errno
		}
		p, err := w.point(c, a, n, choose)
		return p != nil, err
	}
	for choose, of := 0, 1; choose < of; choose++ {
		p, err := w.point(c, a, n, choose)
		if err != nil || p == nil {
			return hit, err
		}
		hit, of = true, p.Choices()
	}
	return hit, nil
}

// point does a command with an action at its nth call, and looks at what
// follows. The call comes back; nil when there was none.
func (w *worker) point(c *crashCase, a stepper.Action, n, choose int) (at *stepper.Point, err error) {
	begin := time.Now()
	w.problems = nil
	if c.before != nil {
		for _, args := range c.before(w.lab) {
			w.must(args...)
		}
	}
	res, run := w.traced(c, a, w.o.Set, n, choose)
	r := crashReport{Said: res.String(), Case: c.name, Action: a.String(), Point: fmt.Sprintf("%d: not reached", n)}
	if run != nil {
		if at = run.Hit(); at != nil {
			r.Point, r.Hit = at.String(), true
		}
		if at != nil && at.Errno != 0 {
			r.Errno = unix.ErrnoName(at.Errno)
		}
		w.alone[c.name] = !r.Hit && run.Processes() == 1
	}
	w.check(c, a, res, r.Hit)
	for _, args := range c.after {
		w.run(args...)
	}
	os.RemoveAll(w.out(""))
	os.Mkdir(w.out(""), 0o755)
	for _, d := range w.settled() {
		w.problem("%s", d)
	}
	r.Problems, r.Took = w.problems, time.Since(begin).Milliseconds()
	if err := w.reports.Encode(r); err != nil {
		return nil, err
	}
	if len(w.problems) > 0 {
		fmt.Fprintf(os.Stderr, "%s, %s at %s\n\t%s\n\t%s\n", c.name, r.Action, r.Point, r.Said, strings.Join(w.problems, "\n\t"))
		err = w.rebuild()
	}
	return at, err
}

// goTrouble is what a program of Go says when it is at its end, not the user's.
var goTrouble = regexp.MustCompile(`(?m)^(panic:|fatal error:|goroutine \d+ )`)

// check looks with hull, and past it, at what a command left.
func (w *worker) check(c *crashCase, a stepper.Action, res labResult, hit bool) {
	switch {
	case res.late:
		w.problem("the command: %s", res)
	case goTrouble.MatchString(res.errs):
		w.problem("the command: %s", res)
	case !hit && res.code != 0:
		w.problem("unharmed, the command: %s", res)
	case a == stepper.Fail && res.code != 0:
		w.checkError(res)
	}
	for _, args := range [][]string{{"ps", "-a"}, {"images"}, {"system", "check"}} {
		if r := w.run(args...); r.code != 0 || r.errs != "" || r.late {
			w.problem("hull %s afterwards: %s", strings.Join(args, " "), r)
		}
	}
	if c.holds != nil {
		if err := c.holds(w.lab); err != nil {
			w.problem("%v", err)
		}
	}
	w.verifyFiles()
	err := c.done(w.lab)
	kept := err
	if c.kept != nil && hit && a == stepper.KillTree {
		kept = c.kept(w.lab)
	}
	if res.code == 0 && !res.late && kept != nil && a != stepper.KillProcess && errText(kept) != errText(never(nil)) {
		w.problem("it said that it succeeded, and %v", kept)
	}
	if err != nil {
		w.again(c)
	}
	w.verifyImages()
	if r := w.run("inspect", "-f", "{{.State.Pid}} {{.State.Status}}", "live"); strings.TrimSpace(r.out) != w.pid+" running" {
		w.problem("the container that ran all the time: %s", r)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// again does the command once more: it must succeed.
func (w *worker) again(c *crashCase) {
	for _, args := range c.again {
		w.must(args...)
	}
	args := c.argv(w.lab)
	r := w.run(args...)
	if r.code != 0 || r.late {
		w.problem("once more, hull %s: %s", strings.Join(args, " "), r)
		return
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := c.done(w.lab)
		if err == nil || errText(err) == errText(never(nil)) {
			return
		}
		if time.Now().After(end) {
			w.problem("once more, hull %s succeeded, and %v", strings.Join(args, " "), err)
			return
		}
	}
}

// checkError wants one clear error.
func (w *worker) checkError(r labResult) {
	said := strings.Count("\n"+r.errs, "\nError: ")
	switch {
	case r.code != 125 && r.code != 126 && r.code != 127 && r.code != 1:
		w.problem("an exit code of nobody: %s", r)
	case said != 1:
		w.problem("%d errors where one was wanted: %s", said, r)
	}
}
