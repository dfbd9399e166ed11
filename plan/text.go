package plan

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An argKind says how an argument of a system call is printed.
type argKind uint8

const (
	argNone      argKind = iota // not shown
	argDec                      // signed decimal
	argHex                      // hexadecimal
	argOct                      // file mode
	argFD                       // descriptor
	argStr                      // string
	argData                     // bytes; the next argument is their number
	argVector                   // vector of strings
	argBuf                      // the scratch buffer
	argWords                    // pointer to words; the next argument is their size in bytes
	argOpen                     // O_…
	argHow                      // struct open_how
	argClone                    // CLONE_… and a signal
	argMS                       // MS_…
	argUmount                   // MNT_…
	argAttr                     // MOUNT_ATTR_…
	argSetattr                  // struct mount_attr
	argTree                     // OPEN_TREE_… and AT_…
	argMove                     // MOVE_MOUNT_…
	argConfig                   // FSCONFIG_…
	argPrctl                    // PR_…
	argIoctl                    // request
	argLimit                    // RLIMIT_…
	argPair                     // struct rlimit
	argCaps                     // three capability sets
	argFilter                   // struct sock_fprog
	argDev                      // device number
	argCloneArgs                // struct clone_args
)

type callInfo struct {
	nr   uint32
	name string
	args []argKind
}

// calls looks up a call that a plan may hold: every other one is a bug.
func calls(nr uint32) (callInfo, bool) {
	for _, c := range callTable {
		if c.nr == nr {
			return c, true
		}
	}
	return callInfo{}, false
}

// callTable is a slice: a map would be filled at each start of the program.
var callTable = []callInfo{
	{unix.SYS_OPENAT, "openat", []argKind{argFD, argStr, argOpen}},
	{unix.SYS_OPENAT2, "openat2", []argKind{argFD, argStr, argHow}},
	{unix.SYS_CLOSE, "close", []argKind{argFD}},
	{unix.SYS_WRITE, "write", []argKind{argFD, argData}},
	{unix.SYS_READ, "read", []argKind{argFD, argBuf, argDec}},
	{unix.SYS_MKDIRAT, "mkdirat", []argKind{argFD, argStr, argOct}},
	{unix.SYS_MKNODAT, "mknodat", []argKind{argFD, argStr, argOct, argDev}},
	{unix.SYS_SYMLINKAT, "symlinkat", []argKind{argStr, argFD, argStr}},
	{unix.SYS_FCHOWNAT, "fchownat", []argKind{argFD, argStr, argDec, argDec, argHex}},
	{unix.SYS_FCHOWN, "fchown", []argKind{argFD, argDec, argDec}},
	{unix.SYS_FSETXATTR, "fsetxattr", []argKind{argFD, argStr, argStr, argDec, argHex}},
	{unix.SYS_DUP3, "dup3", []argKind{argFD, argFD, argOpen}},
	{unix.SYS_FCNTL, "fcntl", []argKind{argFD, argDec, argDec}},
	{unix.SYS_CLOSE_RANGE, "close_range", []argKind{argDec, argHex, argHex}},
	{unix.SYS_FCHDIR, "fchdir", []argKind{argFD}},
	{unix.SYS_CHDIR, "chdir", []argKind{argStr}},
	{unix.SYS_GETCWD, "getcwd", []argKind{argBuf, argDec}},
	{unix.SYS_FSTATFS, "fstatfs", []argKind{argFD, argBuf}},
	{unix.SYS_FSTAT, "fstat", []argKind{argFD, argBuf}},
	{unix.SYS_SENDMSG, "sendmsg", []argKind{argFD}},
	{unix.SYS_MMAP, "mmap", []argKind{argHex, argDec, argHex, argHex, argFD, argDec}},
	{unix.SYS_IOCTL, "ioctl", []argKind{argFD, argIoctl, argHex}},
	{unix.SYS_FACCESSAT2, "faccessat2", []argKind{argFD, argStr, argDec, argHex}},
	{unix.SYS_SOCKET, "socket", []argKind{argDec, argHex, argDec}},
	{unix.SYS_FSOPEN, "fsopen", []argKind{argStr, argHex}},
	{unix.SYS_FSCONFIG, "fsconfig", []argKind{argFD, argConfig, argStr, argStr, argFD}},
	{unix.SYS_FSMOUNT, "fsmount", []argKind{argFD, argHex, argAttr}},
	{unix.SYS_OPEN_TREE, "open_tree", []argKind{argFD, argStr, argTree}},
	{unix.SYS_MOVE_MOUNT, "move_mount", []argKind{argFD, argStr, argFD, argStr, argMove}},
	{unix.SYS_MOUNT_SETATTR, "mount_setattr", []argKind{argFD, argStr, argTree, argSetattr}},
	{unix.SYS_MOUNT, "mount", []argKind{argStr, argStr, argStr, argMS, argStr}},
	{unix.SYS_PIVOT_ROOT, "pivot_root", []argKind{argStr, argStr}},
	{unix.SYS_UMOUNT2, "umount2", []argKind{argStr, argUmount}},
	{unix.SYS_CHROOT, "chroot", []argKind{argStr}},
	{unix.SYS_SETNS, "setns", []argKind{argFD, argClone}},
	{unix.SYS_UNSHARE, "unshare", []argKind{argClone}},
	{unix.SYS_CLONE, "clone", []argKind{argClone}},
	{unix.SYS_CLONE3, "clone3", []argKind{argCloneArgs, argDec}},
	{unix.SYS_PRCTL, "prctl", []argKind{argPrctl}},
	{unix.SYS_CAPSET, "capset", []argKind{argNone, argCaps}},
	{unix.SYS_SECCOMP, "seccomp", []argKind{argDec, argHex, argFilter}},
	{unix.SYS_EXECVE, "execve", []argKind{argStr, argVector, argVector}},
	{unix.SYS_EXECVEAT, "execveat", []argKind{argFD, argStr, argVector, argVector, argHex}},
	{unix.SYS_EXIT_GROUP, "exit_group", []argKind{argDec}},
	{unix.SYS_SETSID, "setsid", nil},
	{unix.SYS_SETPGID, "setpgid", []argKind{argDec, argDec}},
	{unix.SYS_SETGROUPS, "setgroups", []argKind{argDec, argHex}},
	{unix.SYS_SETRESUID, "setresuid", []argKind{argDec, argDec, argDec}},
	{unix.SYS_SETRESGID, "setresgid", []argKind{argDec, argDec, argDec}},
	{unix.SYS_UMASK, "umask", []argKind{argOct}},
	{unix.SYS_PRLIMIT64, "prlimit64", []argKind{argDec, argLimit, argPair}},
	{unix.SYS_SETHOSTNAME, "sethostname", []argKind{argStr, argDec}},
	{unix.SYS_SETDOMAINNAME, "setdomainname", []argKind{argStr, argDec}},
	{unix.SYS_KEYCTL, "keyctl", []argKind{argDec, argStr}},
	{unix.SYS_PERSONALITY, "personality", []argKind{argHex}},
	{unix.SYS_IOPRIO_SET, "ioprio_set", []argKind{argDec, argDec, argHex}},
	{unix.SYS_SCHED_SETATTR, "sched_setattr", []argKind{argDec, argHex, argHex}},
	{unix.SYS_SCHED_SETAFFINITY, "sched_setaffinity", []argKind{argDec, argDec, argHex}},
	{unix.SYS_SET_MEMPOLICY, "set_mempolicy", []argKind{argDec, argHex, argDec}},
	{unix.SYS_RT_SIGPROCMASK, "rt_sigprocmask", []argKind{argDec, argHex}},
	{unix.SYS_RT_SIGACTION, "rt_sigaction", []argKind{argDec, argHex}},
	{unix.SYS_RT_SIGTIMEDWAIT, "rt_sigtimedwait", []argKind{argHex}},
	{callCheck, "check", []argKind{argBuf, argDec, argHex, argHex, argDec, argDec}},
	{callReap, "reap", []argKind{argDec}},
}

func callName(nr uint32) string {
	if c, ok := calls(nr); ok {
		return c.name
	}
	return "syscall " + strconv.Itoa(int(nr))
}

// fdName is how a descriptor is printed: a number, or fdN for the Nth result.
func fdName(f FD) string {
	switch {
	case f == CWD:
		return "AT_FDCWD"
	case f == resultBit|slotScratch:
		return "scratch"
	case f == resultBit|slotReport:
		return "report"
	case f.isResult():
		return "fd" + strconv.Itoa(f.id())
	}
	return strconv.Itoa(int(f))
}

// String prints all steps, one a line, under the names of their phases.
func (p *Plan) String() string {
	var b strings.Builder
	phase := uint8(255)
	subject := ""
	for i := range p.steps {
		s := &p.steps[i]
		if s.phase != phase {
			phase = s.phase
			fmt.Fprintf(&b, "# %s\n", p.phases[phase])
			subject = ""
		}
		if s.subject != subject && s.subject != "" {
			fmt.Fprintf(&b, "  ; %s\n", s.subject)
		}
		subject = s.subject
		fmt.Fprintf(&b, "%4d  %s\n", i, p.StepText(i))
	}
	return b.String()
}

// StepText prints one step in the manner of strace.
func (p *Plan) StepText(i int) string {
	s := &p.steps[i]
	var b strings.Builder
	if s.keep == slotReport {
		b.WriteString("report = ")
	} else if s.keep != 0 {
		b.WriteString(fdName(s.result) + " = ")
	}
	info, _ := calls(s.nr)
	if s.nr == callCheck {
		return checkText(s)
	}
	b.WriteString(callName(s.nr) + "(")
	first := true
	for j, kind := range info.args {
		text := p.argText(s, j, kind)
		if text == "" {
			continue
		}
		if !first {
			b.WriteString(", ")
		}
		first = false
		b.WriteString(text)
	}
	b.WriteString(")")
	if s.flags&flagFork != 0 {
		b.WriteString("  child goes on")
	}
	for _, e := range s.ok {
		if e != 0 {
			b.WriteString("  or " + unix.ErrnoName(unix.Errno(e)))
		}
	}
	to := i + 1 + int(s.skip)
	switch {
	case s.flags&flagSkipErrno != 0:
		fmt.Fprintf(&b, " then to %d", to)
	case s.flags&flagSkipSuccess != 0:
		fmt.Fprintf(&b, "  else to %d", to)
	case s.flags&flagSkipNonzero != 0:
		fmt.Fprintf(&b, "  parent to %d", to)
	}
	return b.String()
}

func (p *Plan) word(off uint64) uint64 { return binary.NativeEndian.Uint64(p.data[off:]) }

func (p *Plan) cstring(off uint64) string {
	s := p.data[off:]
	for i, c := range s {
		if c == 0 {
			return string(s[:i])
		}
	}
	return string(s)
}

func (p *Plan) argText(s *Step, j int, kind argKind) string {
	v := s.args[j]
	isPtr := s.ptr&(1<<j) != 0
	switch kind {
	case argNone:
		return ""
	case argDec:
		if s.fdarg&(1<<j) != 0 {
			return fdName(FD(int64(v)))
		}
		return strconv.FormatInt(int64(v), 10)
	case argHex:
		if isPtr {
			return "{…}"
		}
		return "0x" + strconv.FormatUint(v, 16)
	case argOct:
		return modeText(v)
	case argFD:
		return fdName(FD(int64(v)))
	case argDev:
		if v == 0 {
			return ""
		}
		return fmt.Sprintf("makedev(%d, %d)", unix.Major(v), unix.Minor(v))
	case argBuf:
		return "scratch"
	case argStr, argData, argVector, argWords:
		return p.dataText(s, j, kind, isPtr)
	}
	return p.structText(s, j, kind, v)
}

func modeText(v uint64) string {
	perm := fmt.Sprintf("0%o", v&0o7777)
	switch v & unix.S_IFMT {
	case unix.S_IFREG:
		return "S_IFREG|" + perm
	case unix.S_IFCHR:
		return "S_IFCHR|" + perm
	case unix.S_IFBLK:
		return "S_IFBLK|" + perm
	case unix.S_IFIFO:
		return "S_IFIFO|" + perm
	}
	return perm
}

func (p *Plan) dataText(s *Step, j int, kind argKind, isPtr bool) string {
	v := s.args[j]
	if !isPtr {
		return "NULL"
	}
	switch kind {
	case argStr:
		return strconv.Quote(p.cstring(v))
	case argData:
		n := s.args[j+1]
		return strconv.Quote(string(p.data[v:v+n])) + ", " + strconv.FormatUint(n, 10)
	case argWords:
		var w []string
		for k := uint64(0); k < s.args[j+1]/8; k++ {
			w = append(w, fmt.Sprintf("%#x", p.word(v+8*k)))
		}
		return "{" + strings.Join(w, " ") + "}"
	}
	var w []string
	for ; p.word(v) != 0; v += 8 {
		w = append(w, strconv.Quote(p.cstring(p.word(v))))
	}
	return "[" + strings.Join(w, ", ") + "]"
}

func (p *Plan) structText(s *Step, j int, kind argKind, v uint64) string {
	switch kind {
	case argHow:
		return flagText(openFlags, p.word(v)) + ", " + flagText(resolveFlags, p.word(v+16))
	case argSetattr:
		return p.setattrText(v)
	case argPair:
		return limitText(p.word(v)) + ":" + limitText(p.word(v+8))
	case argCaps:
		set := func(i uint64) uint64 {
			w := func(k uint64) uint64 { return uint64(binary.NativeEndian.Uint32(p.data[v+4*k:])) }
			return w(i) | w(i+3)<<32
		}
		return fmt.Sprintf("effective %#x, permitted %#x, inheritable %#x", set(0), set(1), set(2))
	case argFilter:
		return fmt.Sprintf("%d instructions", p.word(v))
	case argPrctl:
		return p.prctlText(s, v)
	case argClone:
		return flagText(cloneFlags, v)
	case argCloneArgs:
		return fmt.Sprintf("{%s, cgroup %d}", flagText(cloneFlags, p.word(v)), p.word(v+80))
	case argConfig, argLimit, argIoctl:
		for _, f := range map[argKind][]flagName{argConfig: configNames, argLimit: limitNames, argIoctl: ioctlNames}[kind] {
			if f.value == v {
				return f.name
			}
		}
		return fmt.Sprintf("%#x", v)
	}
	return flagText(map[argKind][]flagName{argOpen: openFlags, argMS: msFlags, argUmount: umountFlags,
		argAttr: attrFlags, argTree: treeFlags, argMove: moveFlags}[kind], v)
}

func (p *Plan) setattrText(v uint64) string {
	var w []string
	for k, label := range []string{"set ", "clear "} {
		if x := p.word(v + 8*uint64(k)); x != 0 {
			w = append(w, label+flagText(attrFlags, x))
		}
	}
	if x := p.word(v + 16); x != 0 {
		w = append(w, flagText(msFlags, x))
	}
	if x := p.word(v + 24); x != 0 {
		w = append(w, fmt.Sprintf("userns %d", x))
	}
	return "{" + strings.Join(w, ", ") + "}"
}

// checkText prints the pseudo call: what must, or must not, be.
func checkText(s *Step) string {
	is := "!="
	if s.args[5] == 1 {
		is = "=="
	}
	value := "0x" + strconv.FormatUint(s.args[3], 16)
	for _, m := range magicNames {
		if m.value == s.args[3] {
			value = m.name
		}
	}
	return fmt.Sprintf("check(scratch[%d] & 0x%x %s %s)  else %s", s.args[1], s.args[2], is, value, unix.ErrnoName(unix.Errno(s.args[4])))
}

func limitText(v uint64) string {
	if v == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return strconv.FormatUint(v, 10)
}

func (p *Plan) prctlText(s *Step, v uint64) string {
	name := fmt.Sprintf("%d", v)
	for _, f := range prctlNames {
		if f.value == v {
			name = f.name
		}
	}
	if v == unix.PR_CAPBSET_DROP {
		return name + ", " + flagText(capabilityFlags, 1<<s.args[1])
	}
	if v == unix.PR_CAP_AMBIENT {
		if s.args[1] == unix.PR_CAP_AMBIENT_CLEAR_ALL {
			return name + ", PR_CAP_AMBIENT_CLEAR_ALL"
		}
		return name + ", PR_CAP_AMBIENT_RAISE, " + flagText(capabilityFlags, 1<<s.args[2])
	}
	if s.ptr&2 != 0 {
		return name + ", " + strconv.Quote(p.cstring(s.args[1]))
	}
	for j := 1; j < 3; j++ {
		if j == 1 || s.args[j] != 0 {
			name += fmt.Sprintf(", %d", s.args[j])
		}
	}
	return name
}
