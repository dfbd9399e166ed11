package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"hull/state"
)

// A topColumn is a descriptor of top: its heading, and how it is read of a
// process. Everything comes from the host's /proc; no file of the container is
// opened or run (EXEC-05).
type topColumn struct {
	name, heading string
	value         func(p *topProcess) string
}

// topProcess is what /proc tells of a process of a container.
type topProcess struct {
	pid    int // the host's
	stat   []string
	comm   string
	status map[string]string
	args   string
	users  map[string]string
	hz     int
}

// userHertz is the unit of times in /proc/PID/stat.
const userHertz = 100

var topColumns = []topColumn{
	{"user", "USER", func(p *topProcess) string { return p.user(p.word("Uid", 1)) }},
	{"uid", "UID", func(p *topProcess) string { return p.word("Uid", 1) }},
	{"ruser", "RUSER", func(p *topProcess) string { return p.user(p.word("Uid", 0)) }},
	{"group", "GROUP", func(p *topProcess) string { return p.word("Gid", 1) }},
	{"rgroup", "RGROUP", func(p *topProcess) string { return p.word("Gid", 0) }},
	{"groups", "GROUPS", func(p *topProcess) string { return strings.Join(strings.Fields(p.status["Groups"]), ",") }},
	{"huser", "HUSER", func(p *topProcess) string { return p.word("Uid", 1) }},
	{"hgroup", "HGROUP", func(p *topProcess) string { return p.word("Gid", 1) }},
	{"pid", "PID", func(p *topProcess) string { return p.last("NSpid") }},
	{"hpid", "HPID", func(p *topProcess) string { return strconv.Itoa(p.pid) }},
	{"ppid", "PPID", func(p *topProcess) string { return p.parent() }},
	{"pgid", "PGID", func(p *topProcess) string { return p.last("NSpgid") }},
	{"nice", "NI", func(p *topProcess) string { return p.field(18) }},
	{"pcpu", "%CPU", func(p *topProcess) string { return p.cpu() }},
	{"etime", "ELAPSED", func(p *topProcess) string { return p.elapsed().Truncate(time.Millisecond).String() }},
	{"tty", "TTY", func(p *topProcess) string { return p.tty() }},
	{"time", "TIME", func(p *topProcess) string { return p.used().String() }},
	{"vsz", "VSZ", func(p *topProcess) string { return p.word("VmSize", 0) }},
	{"rss", "RSS", func(p *topProcess) string { return p.word("VmRSS", 0) }},
	{"comm", "COMMAND", func(p *topProcess) string { return p.comm }},
	{"args", "COMMAND", func(p *topProcess) string { return p.args }},
	{"state", "STATE", func(p *topProcess) string { return p.field(2) }},
	{"stime", "STIME", func(p *topProcess) string { return time.Now().Add(-p.elapsed()).Format("15:04") }},
	{"capeff", "EFFECTIVE CAPS", func(p *topProcess) string { return capText(p.status["CapEff"]) }},
	{"capbnd", "BOUNDING CAPS", func(p *topProcess) string { return capText(p.status["CapBnd"]) }},
	{"capinh", "INHERITED CAPS", func(p *topProcess) string { return capText(p.status["CapInh"]) }},
	{"capprm", "PERMITTED CAPS", func(p *topProcess) string { return capText(p.status["CapPrm"]) }},
	{"capamb", "AMBIENT CAPS", func(p *topProcess) string { return capText(p.status["CapAmb"]) }},
	{"seccomp", "SECCOMP", func(p *topProcess) string {
		return map[string]string{"0": "disabled", "1": "strict", "2": "filter"}[p.status["Seccomp"]]
	}},
	{"label", "LABEL", func(p *topProcess) string {
		b, _ := state.ReadFile(fmt.Sprintf("/proc/%d/attr/current", p.pid))
		return strings.TrimRight(string(b), "\x00\n")
	}},
}

// topAliases are ps's names for the same columns.
var topAliases = map[string]string{
	"c": "pcpu", "%cpu": "pcpu", "%C": "pcpu", "pgrp": "pgid", "ni": "nice", "command": "args", "cmd": "args", "ucomm": "comm", "tt": "tty", "tname": "tty",
	"cputime": "time", "rssize": "rss", "rsz": "rss", "vsize": "vsz", "egroup": "group", "euser": "user", "s": "state", "uname": "user", "stat": "state", "start": "stime",
}

// defaultTop are podman's columns.
var defaultTop = []string{"user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args"}

// TopColumns lists the descriptors that Top knows.
func TopColumns() []string {
	var names []string
	for _, c := range topColumns {
		names = append(names, c.name)
	}
	return names
}

// Top returns a heading and a row for each process of a running container.
func (e *Engine) Top(ctx context.Context, name string, o TopOptions) ([][]string, error) {
	r, s, err := e.open(ctx, name)
	if err != nil {
		return nil, err
	}
	if !s.running() {
		return nil, fmt.Errorf("top of container %s: it is %s, not running: %w", r.Name, s.Status, ErrState)
	}
	columns, err := chooseColumns(o.Columns)
	if err != nil {
		return nil, err
	}
	pids, err := e.pids(s)
	if err != nil {
		return nil, err
	}
	users := passwdNames(s.Pid)
	var heading []string
	for _, c := range columns {
		heading = append(heading, c.heading)
	}
	out := [][]string{heading}
	for _, pid := range pids {
		p, err := readProcess(pid)
		if errors.Is(err, fs.ErrNotExist) || err != nil {
			continue // ended meanwhile
		}
		p.users = users
		var row []string
		for _, c := range columns {
			row = append(row, c.value(p))
		}
		out = append(out, row)
	}
	return out, nil
}

func chooseColumns(words []string) ([]topColumn, error) {
	var names []string
	for i, w := range words {
		// ps's own form: -e, -o LIST and the like.
		if w == "-o" || w == "-eo" || i == 0 && strings.HasPrefix(w, "-") && !strings.Contains(w, "o") {
			continue
		}
		w = strings.TrimPrefix(strings.TrimPrefix(w, "-eo"), "-o")
		for n := range strings.SplitSeq(w, ",") {
			if n != "" {
				names = append(names, n)
			}
		}
	}
	if len(names) == 0 {
		names = defaultTop
	}
	var out []topColumn
	for _, n := range names {
		n = strings.ToLower(n)
		if a, ok := topAliases[n]; ok {
			n = a
		}
		found := false
		for _, c := range topColumns {
			if c.name == n {
				out, found = append(out, c), true
			}
		}
		if !found {
			return nil, fmt.Errorf("top: %q is not a descriptor; there are %s", n, strings.Join(TopColumns(), " "))
		}
	}
	return out, nil
}

// pids are the container's processes: of its cgroup, or, where it has none,
// those of its pid namespace.
func (e *Engine) pids(s *runState) ([]int, error) {
	if g := e.group(s); g != nil {
		if pids, err := g.Pids(); err == nil && len(pids) > 0 {
			return pids, nil
		}
	}
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", s.Pid))
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []int
	for _, d := range entries {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		if ns, err := os.Readlink("/proc/" + d.Name() + "/ns/pid"); err == nil && ns == own {
			out = append(out, pid)
		}
	}
	return out, nil
}

// readProcess reads what the columns are made of.
func readProcess(pid int) (*topProcess, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	p := &topProcess{pid: pid, status: map[string]string{}, hz: userHertz}
	stat, err := state.ReadFile(dir + "/stat")
	if err != nil {
		return nil, err
	}
	text := string(stat)
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return nil, fmt.Errorf("read process %d: unexpected stat line", pid)
	}
	p.comm = text[open+1 : end]
	p.stat = strings.Fields(text[end+1:])
	status, err := state.ReadFile(dir + "/status")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(status)) {
		k, v, _ := strings.Cut(line, ":")
		p.status[k] = strings.TrimSpace(v)
	}
	args, err := state.ReadFile(dir + "/cmdline")
	if err != nil {
		return nil, err
	}
	if p.args = strings.TrimRight(strings.ReplaceAll(string(args), "\x00", " "), " "); p.args == "" {
		p.args = "[" + p.comm + "]"
	}
	return p, nil
}

// field is field i of stat(5), counted from 0 for the pid.
func (p *topProcess) field(i int) string {
	if i-2 < 0 || i-2 >= len(p.stat) {
		return ""
	}
	return p.stat[i-2]
}

func (p *topProcess) number(i int) int64 {
	n, _ := strconv.ParseInt(p.field(i), 10, 64)
	return n
}

func (p *topProcess) word(key string, i int) string {
	w := strings.Fields(p.status[key])
	if i >= len(w) {
		return "0"
	}
	return w[i]
}

// last is the number in the innermost namespace.
func (p *topProcess) last(key string) string {
	w := strings.Fields(p.status[key])
	if len(w) == 0 {
		return "0"
	}
	return w[len(w)-1]
}

func (p *topProcess) parent() string {
	b, err := state.ReadFile("/proc/" + p.field(3) + "/status")
	if err != nil || len(strings.Fields(p.status["NSpid"])) < 2 {
		return "0"
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "NSpid:"); ok {
			w := strings.Fields(v)
			if len(w) == len(strings.Fields(p.status["NSpid"])) {
				return w[len(w)-1]
			}
		}
	}
	return "0" // outside the container
}

func (p *topProcess) user(id string) string {
	if n, ok := p.users[id]; ok {
		return n
	}
	return id
}

func (p *topProcess) used() time.Duration {
	return time.Duration(p.number(13)+p.number(14)) * time.Second / time.Duration(p.hz)
}

func (p *topProcess) elapsed() time.Duration {
	b, _ := state.ReadFile("/proc/uptime")
	first, _, _ := strings.Cut(string(b), " ")
	up, _ := strconv.ParseFloat(first, 64)
	started := float64(p.number(21)) / float64(p.hz)
	return time.Duration((up - started) * float64(time.Second))
}

func (p *topProcess) cpu() string {
	e := p.elapsed().Seconds()
	if e <= 0 {
		return "0.000"
	}
	return strconv.FormatFloat(100*p.used().Seconds()/e, 'f', 3, 64)
}

func (p *topProcess) tty() string {
	n := p.number(6)
	if n == 0 {
		return "?"
	}
	minor := n&0xff | n>>12&0xfff00
	return "pts/" + strconv.FormatInt(minor, 10)
}

// capText names a hexadecimal set.
func capText(hex string) string {
	set, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		return ""
	}
	var names []string
	for i, c := range allCapabilities {
		if set>>i&1 == 1 {
			names = append(names, strings.TrimPrefix(c, "CAP_"))
		}
	}
	switch len(names) {
	case 0:
		return "none"
	case len(allCapabilities):
		return "full"
	}
	return strings.Join(names, ",")
}
