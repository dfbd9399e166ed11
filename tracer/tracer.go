package tracer

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hull/seccomp"
)

// what the kernel is asked to do with children: they are traced from their
// first call on, and die with the tracer only if it started them.
const follow = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC

// A tracer is one run of the program.
type tracer struct {
	out     io.Writer
	only    map[string]bool // names of calls; empty: all
	length  int             // of strings
	summary bool
	names   map[int64]string

	threads map[int]*thread
	counts  map[string]*count
	child   int // the process started here, else 0
	code    int
}

// A thread is one that is traced.
type thread struct {
	inside bool // a call
	name   string
	nr     int64
	args   [6]uint64
	begin  []string // arguments as they were before the call
}

type count struct{ calls, errors int }

// Main is the program hull-trace: its command line and exit code.
func Main(argv []string, stdout, stderr io.Writer) int {
	t := &tracer{out: stderr, only: map[string]bool{}, threads: map[int]*thread{}, counts: map[string]*count{}, names: seccomp.CallNames()}
	var pids []int
	f := flag.NewFlagSet("strace", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Func("p", "trace the process with this number; may be given more than once", func(s string) error {
		n, err := strconv.Atoi(s)
		pids = append(pids, n)
		return err
	})
	f.Func("e", "trace only these calls: [trace=]NAME[,NAME...]", func(s string) error {
		for _, n := range strings.Split(strings.TrimPrefix(s, "trace="), ",") {
			t.only[n] = true
		}
		return nil
	})
	f.BoolVar(&t.summary, "c", false, "count calls and errors instead of printing them")
	f.Bool("f", true, "follow children (they always are)")
	f.IntVar(&t.length, "s", 64, "print that many bytes of a string")
	path := f.String("o", "", "write to this file")
	if err := f.Parse(argv[1:]); err != nil {
		return 2
	}
	if len(pids) == 0 && f.NArg() == 0 {
		fmt.Fprintln(stderr, "usage: strace [-c] [-e NAME,...] [-o FILE] [-s LENGTH] {-p PID | PROGRAM [ARG...]}")
		return 2
	}
	if *path != "" {
		file, err := os.Create(*path)
		if err != nil {
			fmt.Fprintln(stderr, "Error:", err)
			return 1
		}
		defer file.Close()
		t.out = file
	}
	runtime.LockOSThread() // the kernel knows the tracer by its thread
	if err := t.begin(pids, f.Args(), stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "Error:", err)
		return 1
	}
	t.loop()
	t.total()
	return t.code
}

// begin attaches to processes and starts a program.
func (t *tracer) begin(pids []int, argv []string, stdout, stderr io.Writer) error {
	for _, pid := range pids {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return fmt.Errorf("trace process %d: %w", pid, err)
		}
		for _, e := range entries {
			tid, _ := strconv.Atoi(e.Name())
			if err := ptrace(unix.PTRACE_SEIZE, tid, 0, follow); err != nil {
				return fmt.Errorf("trace process %d: %w", pid, err)
			}
			t.threads[tid] = &thread{}
			_ = ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0) // it may have gone: then wait says so
		}
	}
	if len(argv) == 0 {
		return nil
	}
	c := exec.Command(argv[0], argv[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, stdout, stderr
	c.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	t.child = c.Process.Pid
	var ws unix.WaitStatus
	if _, err := unix.Wait4(t.child, &ws, unix.WALL, nil); err != nil {
		return err
	}
	t.threads[t.child] = &thread{}
	if err := unix.PtraceSetOptions(t.child, follow|unix.PTRACE_O_EXITKILL); err != nil {
		return err
	}
	return unix.PtraceSyscall(t.child, 0)
}

// loop takes what threads report until none is left.
func (t *tracer) loop() {
	for len(t.threads) > 0 {
		var ws unix.WaitStatus
		tid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		th := t.threads[tid]
		if th == nil {
			th = &thread{}
			t.threads[tid] = th
		}
		if ws.Exited() || ws.Signaled() {
			t.ended(tid, ws)
			continue
		}
		signal := 0
		switch s := ws.StopSignal(); {
		case s == unix.SIGTRAP|0x80:
			t.stop(tid, th)
		case int(ws)>>16 != 0: // an event: a child, execve, or the first stop
		case s == unix.SIGSTOP && !th.inside && th.name == "": // a new child's first stop
		case s == unix.SIGTRAP:
		default:
			signal = int(s)
			t.line(tid, fmt.Sprintf("--- %s ---", unix.SignalName(s)))
		}
		_ = unix.PtraceSyscall(tid, signal) // ESRCH: killed meanwhile, the next wait says so
	}
}

func (t *tracer) ended(tid int, ws unix.WaitStatus) {
	th := t.threads[tid]
	if th.inside && strings.HasPrefix(th.name, "exit") {
		t.print(tid, th, "?")
	}
	delete(t.threads, tid)
	text, code := fmt.Sprintf("+++ exited with %d +++", ws.ExitStatus()), ws.ExitStatus()
	if ws.Signaled() {
		text, code = fmt.Sprintf("+++ killed by %s +++", unix.SignalName(ws.Signal())), 128+int(ws.Signal())
	}
	t.line(tid, text)
	if tid == t.child {
		t.code = code
	}
}

// stop is a thread's stop before or after a call.
func (t *tracer) stop(tid int, th *thread) {
	nr, args, result, err := registers(tid)
	if err != nil {
		return
	}
	if !th.inside {
		name, ok := t.names[nr]
		if !ok {
			name = fmt.Sprintf("syscall_%d", nr)
		}
		*th = thread{inside: true, name: name, nr: nr, args: args}
		th.begin = t.arguments(tid, th, false, 0)
		return
	}
	th.inside = false
	text := strconv.FormatInt(result, 10)
	failed := result < 0 && result > -4096
	if failed {
		e := unix.Errno(-result)
		text = fmt.Sprintf("-1 %s (%s)", unix.ErrnoName(e), e.Error())
	} else if result > 1<<32 {
		text = fmt.Sprintf("%#x", uint64(result))
	}
	for i, a := range t.arguments(tid, th, true, result) {
		if a != "" && i < len(th.begin) {
			th.begin[i] = a
		}
	}
	if c := t.counts[th.name]; c != nil {
		c.calls++
	} else {
		t.counts[th.name] = &count{calls: 1}
	}
	if failed {
		t.counts[th.name].errors++
	}
	t.print(tid, th, text)
}

func (t *tracer) print(tid int, th *thread, result string) {
	if len(t.only) > 0 && !t.only[th.name] {
		return
	}
	t.line(tid, fmt.Sprintf("%s(%s) = %s", th.name, strings.Join(th.begin, ", "), result))
}

func (t *tracer) line(tid int, text string) {
	if !t.summary {
		fmt.Fprintf(t.out, "[%d] %s\n", tid, text)
	}
}

// total prints the table of -c.
func (t *tracer) total() {
	if !t.summary {
		return
	}
	names := slices.SortedFunc(maps.Keys(t.counts), func(a, b string) int { return t.counts[b].calls - t.counts[a].calls })
	fmt.Fprintf(t.out, "%9s %9s %s\n", "calls", "errors", "syscall")
	for _, n := range names {
		fmt.Fprintf(t.out, "%9d %9d %s\n", t.counts[n].calls, t.counts[n].errors, n)
	}
}

// arguments prints a call's arguments: before the call all but those that it
// fills, after it only these.
func (t *tracer) arguments(tid int, th *thread, after bool, result int64) []string {
	kinds, known := calls[th.name]
	if !known {
		kinds = "xxxxxx"
		for n := 5; n >= 0 && th.args[n] == 0; n-- {
			kinds = kinds[:n]
		}
	}
	out := make([]string, len(kinds))
	for i, k := range kinds {
		a := th.args[i]
		switch {
		case k == 'r' && after && result >= 0:
			out[i] = t.bytes(tid, a, int(result))
		case k == 'r' || !after && k == 'x':
			out[i] = fmt.Sprintf("%#x", a)
		case after:
		case k == 's':
			out[i] = t.text(tid, a)
		case k == 'b':
			out[i] = t.bytes(tid, a, int(th.args[min(i+1, 5)]))
		case k == 'v':
			out[i] = t.list(tid, a)
		case k == 'o':
			out[i] = fmt.Sprintf("%#o", uint32(a))
		case k == 'f' && int32(a) == unix.AT_FDCWD:
			out[i] = "AT_FDCWD"
		case k == 'f':
			out[i] = strconv.Itoa(int(int32(a)))
		default:
			out[i] = strconv.FormatInt(int64(a), 10)
		}
	}
	return out
}

func (t *tracer) bytes(tid int, addr uint64, n int) string {
	if addr == 0 {
		return "NULL"
	}
	b := peek(tid, addr, min(max(n, 0), t.length))
	s := strconv.Quote(string(b))
	if n > t.length {
		s += "..."
	}
	return s
}

func (t *tracer) text(tid int, addr uint64) string {
	if addr == 0 {
		return "NULL"
	}
	b := peek(tid, addr, 4096)
	if n := bytes.IndexByte(b, 0); n >= 0 {
		b = b[:n]
	}
	return strconv.Quote(string(b))
}

func (t *tracer) list(tid int, addr uint64) string {
	var words []string
	for i := range uint64(16) {
		p := peek(tid, addr+8*i, 8)
		if len(p) < 8 {
			break
		}
		at := uint64(0)
		for j, c := range p {
			at |= uint64(c) << (8 * j)
		}
		if at == 0 {
			return "[" + strings.Join(words, ", ") + "]"
		}
		words = append(words, t.text(tid, at))
	}
	return "[" + strings.Join(append(words, "..."), ", ") + "]"
}

// peek reads a thread's memory; less where it ends.
func peek(tid int, addr uint64, n int) []byte {
	b := make([]byte, n)
	for len(b) > 0 {
		got, err := unix.PtracePeekData(tid, uintptr(addr), b)
		if err == nil || got > 0 && !errors.Is(err, unix.ESRCH) {
			return b[:got]
		}
		// The page after the string may not be there.
		if next := len(b) / 2; next > 0 {
			b = b[:next]
			continue
		}
		return nil
	}
	return b
}
