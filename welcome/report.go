package welcome

import (
	"os"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Section is one subject of the report.
type Section struct {
	Title string
	// Why says in one line what the reader looks at.
	Why   string
	Lines []Line
}

// A Line is a name and its value.
type Line struct{ Name, Value string }

// Report looks at the calling process and what is around it.
func Report() []Section {
	status := fields("/proc/self/status")
	return []Section{
		process(status), identity(status), namespaces(), rights(status), limits(), network(), mounts(),
	}
}

// read returns a small file's text, trimmed; a dash when it cannot be read.
func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "-"
	}
	return strings.TrimSpace(string(b))
}

// fields reads lines of NAME: VALUE.
func fields(path string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(read(path)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			out[name] = strings.Join(strings.Fields(value), " ")
		}
	}
	return out
}

func process(status map[string]string) Section {
	var others []string
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			others = append(others, e.Name())
		}
	}
	seen := "none"
	if len(others) > 0 {
		seen = strings.Join(others, " ")
	}
	var u unix.Utsname
	unix.Uname(&u)
	return Section{"Process", "A container is a process. It thinks it is the first one.", []Line{
		{"pid", strconv.Itoa(os.Getpid())},
		{"other processes", seen},
		{"command", strings.Join(os.Args, " ")},
		{"kernel", unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " (the host's)"},
		{"threads", status["Threads"]},
	}}
}

func identity(status map[string]string) Section {
	host, _ := os.Hostname()
	dir, _ := os.Getwd()
	s := Section{"Identity", "Who it is inside, and who that is outside.", []Line{
		{"host name", host}, {"user", first(status["Uid"])}, {"group", first(status["Gid"])},
		{"more groups", orNone(status["Groups"])}, {"directory", dir},
	}}
	for _, m := range []struct{ name, file string }{{"user map", "/proc/self/uid_map"}, {"group map", "/proc/self/gid_map"}} {
		for line := range strings.Lines(read(m.file)) {
			w := strings.Fields(line)
			if len(w) != 3 {
				continue
			}
			value := w[0] + " is " + w[1] + " outside, " + w[2] + " of them"
			if w[0] == "0" && w[1] == "0" && w[2] == "4294967295" {
				value = "every id is the same outside"
			}
			s.Lines = append(s.Lines, Line{m.name, value})
		}
	}
	return append1(s, Line{"login user", loginUID()})
}

func append1(s Section, l Line) Section { s.Lines = append(s.Lines, l); return s }

func first(s string) string {
	w := strings.Fields(s)
	if len(w) == 0 {
		return "-"
	}
	return w[0]
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func loginUID() string {
	switch s := read("/proc/self/loginuid"); s {
	case "4294967295":
		return "unset: nobody logged in for this"
	default:
		return s
	}
}

func namespaces() Section {
	s := Section{Title: "Namespaces", Why: "What it sees of its own; each number is one world."}
	for _, n := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"} {
		link, err := os.Readlink("/proc/self/ns/" + n)
		if err != nil {
			link = "-"
		}
		s.Lines = append(s.Lines, Line{n, link})
	}
	return s
}

// capabilityNames in the order of their numbers.
var capabilityNames = []string{
	"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
	"linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
	"sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
	"sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
	"mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
	"checkpoint_restore",
}

// capabilities names the bits of a hexadecimal set.
func capabilities(hex string) string {
	set, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		return "-"
	}
	var names []string
	for i, n := range capabilityNames {
		if set>>i&1 == 1 {
			names = append(names, n)
		}
	}
	switch len(names) {
	case 0:
		return "none"
	case len(capabilityNames):
		return "all " + strconv.Itoa(len(names))
	}
	return strconv.Itoa(len(names)) + ": " + strings.Join(names, " ")
}

func rights(status map[string]string) Section {
	seccomp := "off"
	switch status["Seccomp"] {
	case "1":
		seccomp = "strict"
	case "2":
		seccomp = "filter, " + status["Seccomp_filters"]
	}
	label := read("/proc/self/attr/current")
	if label == "" {
		label = "-"
	}
	return Section{"Rights", "What the kernel lets it do.", []Line{
		{"capabilities", capabilities(status["CapEff"])},
		{"at most", capabilities(status["CapBnd"])},
		{"inherited", capabilities(status["CapInh"])},
		{"no new privileges", yesNo(status["NoNewPrivs"] == "1")},
		{"seccomp", seccomp},
		{"security label", strings.TrimRight(label, "\x00\n")},
	}}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func limits() Section {
	s := Section{Title: "Limits", Why: "How much it may use."}
	for line := range strings.Lines(read("/proc/self/cgroup")) {
		w := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(w) != 3 {
			continue
		}
		kind := w[1]
		if kind == "" {
			kind = "version 2"
		}
		switch kind {
		case "version 2", "memory", "pids", "cpu,cpuacct":
			s.Lines = append(s.Lines, Line{"cgroup, " + kind, w[2]})
		}
	}
	for _, f := range []struct{ name, v2, v1 string }{
		{"memory", "memory.max", "memory/memory.limit_in_bytes"},
		{"processes", "pids.max", "pids/pids.max"},
		{"cpu", "cpu.max", "cpu/cpu.cfs_quota_us"},
	} {
		value := read("/sys/fs/cgroup/" + f.v2)
		if value == "-" {
			value = read("/sys/fs/cgroup/" + f.v1)
		}
		if value == "-1" || strings.HasPrefix(value, "max") || len(value) > 18 {
			value = "no limit"
		}
		s.Lines = append(s.Lines, Line{f.name, value})
	}
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		s.Lines = append(s.Lines, Line{"open files", "at most " + strconv.FormatUint(l.Max, 10)})
	}
	return s
}

func network() Section {
	s := Section{Title: "Network", Why: "Interfaces of its own, not the host's."}
	entries, _ := os.ReadDir("/sys/class/net")
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	sort.Strings(names)
	for _, n := range names {
		value := read("/sys/class/net/" + n + "/address")
		if addr := address4(n); addr != "" {
			value = addr + ", " + value
		}
		s.Lines = append(s.Lines, Line{n, value})
	}
	if len(names) == 0 {
		s.Lines = append(s.Lines, Line{"interfaces", "none to be seen"})
	}
	return s
}

// address4 asks the kernel for an interface's IPv4 address.
func address4(name string) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil || unix.IoctlIfreq(fd, unix.SIOCGIFADDR, req) != nil {
		return ""
	}
	a, err := req.Inet4Addr()
	if err != nil || len(a) != 4 {
		return ""
	}
	return strconv.Itoa(int(a[0])) + "." + strconv.Itoa(int(a[1])) + "." + strconv.Itoa(int(a[2])) + "." + strconv.Itoa(int(a[3]))
}

func mounts() Section {
	s := Section{Title: "Mounts", Why: "Its own view of files; what is masked is mounted over."}
	masked := 0
	for line := range strings.Lines(read("/proc/self/mountinfo")) {
		w := strings.Fields(line)
		sep := -1
		for i, x := range w {
			if x == "-" {
				sep = i
			}
		}
		if sep < 6 || sep+2 >= len(w) {
			continue
		}
		dir, kind := w[4], w[sep+1]
		if strings.Count(dir, "/") > 1 && (strings.HasPrefix(dir, "/proc/") || strings.HasPrefix(dir, "/sys/")) && !strings.HasPrefix(dir, "/sys/fs/cgroup") {
			masked++
			continue
		}
		access, _, _ := strings.Cut(w[5], ",")
		s.Lines = append(s.Lines, Line{dir, kind + ", " + access})
	}
	return append1(s, Line{"below /proc, /sys", strconv.Itoa(masked) + " places masked or read-only"})
}
