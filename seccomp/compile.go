package seccomp

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const retENOSYS = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

// action is a rule's verdict with the conditions under which it holds: all of args.
type action struct {
	ret  uint32
	args []specs.LinuxSeccompArg
}

// Compile makes the filter of s for a container whose native architecture is arch (a GOARCH). An unknown action,
// operator, flag or architecture is an error, an unknown call's name is not: it is listed in Program.Unknown, since
// profiles are written for newer kernels than ours and for older ones.
func Compile(s *specs.LinuxSeccomp, arch string) (Program, error) {
	if s == nil {
		return Program{}, errors.New("compile seccomp profile: there is none")
	}
	p, err := compile(s, arch)
	if err != nil {
		return Program{}, fmt.Errorf("compile seccomp profile: %w", err)
	}
	return p, nil
}

func compile(s *specs.LinuxSeccomp, arch string) (Program, error) {
	native, err := nativeABI(arch)
	if err != nil {
		return Program{}, err
	}
	use, err := selectABIs(s.Architectures, native)
	if err != nil {
		return Program{}, err
	}
	c := compiler{}
	if c.def, err = verdict(s.DefaultAction, s.DefaultErrnoRet); err != nil {
		return Program{}, fmt.Errorf("defaultAction: %w", err)
	}
	if c.def == unix.SECCOMP_RET_USER_NOTIF {
		return Program{}, errors.New("defaultAction: SCMP_ACT_NOTIFY would also stop the calls that hand the listener over")
	}
	if err := c.collect(s.Syscalls, use); err != nil {
		return Program{}, err
	}
	prog := Program{Unknown: c.unknown, Notify: c.notify}
	if prog.Flags, err = flags(s.Flags); err != nil {
		return Program{}, err
	}
	if c.notify {
		prog.Flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
		if prog.Flags&unix.SECCOMP_FILTER_FLAG_TSYNC != 0 {
			prog.Flags |= unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH // TSYNC alone and a listener exclude each other
		}
	}
	if prog.Flags&unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0 && !c.notify {
		return Program{}, errors.New("flag SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV without a rule that notifies")
	}
	if prog.Filter, err = c.assemble(use); err != nil {
		return Program{}, err
	}
	return prog, nil
}

// selectABIs gives the ABIs the filter knows, the native one first.
func selectABIs(names []specs.Arch, native abi) ([]abi, error) {
	use := []abi{native}
	for _, n := range names {
		if !knownArch(n) {
			return nil, fmt.Errorf("unknown architecture %q", n)
		}
		for _, a := range abis() {
			if a.name == n && !slices.ContainsFunc(use, func(b abi) bool { return b.name == n }) {
				use = append(use, a)
			}
		}
	}
	// x32 is a branch of amd64's part of the program: without it nothing leads there.
	if !slices.ContainsFunc(use, func(a abi) bool { return a.name == specs.ArchX86_64 }) {
		use = slices.DeleteFunc(use, func(a abi) bool { return a.bit == x32Bit })
	}
	return use, nil
}

// verdict is the kernel's return value for an action.
func verdict(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(unix.EPERM)
	if errno != nil {
		if a != specs.ActErrno && a != specs.ActTrace {
			return 0, fmt.Errorf("%s takes no errnoRet", a)
		}
		if limit := uint(4095); a == specs.ActErrno && *errno > limit { // MAX_ERRNO; the kernel would clamp it
			return 0, fmt.Errorf("errnoRet %d is above %d", *errno, limit)
		}
		if *errno > unix.SECCOMP_RET_DATA {
			return 0, fmt.Errorf("errnoRet %d does not fit 16 bits", *errno)
		}
		data = uint32(*errno)
	}
	switch a {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | data, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | data, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActNotify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	}
	return 0, fmt.Errorf("unknown action %q", a)
}

// flags gives the flags of seccomp(2).
func flags(names []specs.LinuxSeccompFlag) (f uint, err error) {
	for _, n := range names {
		switch n {
		case specs.LinuxSeccompFlagLog:
			f |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			f |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case specs.LinuxSeccompFlagWaitKillableRecv:
			f |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		case "SECCOMP_FILTER_FLAG_TSYNC": // not in the spec any more, runc and crun still take it
			f |= unix.SECCOMP_FILTER_FLAG_TSYNC
		default:
			return 0, fmt.Errorf("unknown flag %q", n)
		}
	}
	return f, nil
}

func checkArg(a specs.LinuxSeccompArg) error {
	if a.Index > 5 {
		return fmt.Errorf("index %d: a call has arguments 0 to 5", a.Index)
	}
	switch a.Op {
	case specs.OpEqualTo, specs.OpNotEqual, specs.OpMaskedEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpLessThan, specs.OpLessEqual:
		return nil
	}
	return fmt.Errorf("unknown operator %q", a.Op)
}

// call is one number of an ABI with the actions that may apply to it.
type call struct {
	nr      uint32
	actions []int32 // indices into compiler.actions, most restrictive first
}

type compiler struct {
	def     uint32
	actions []action
	perABI  [][]call // parallel to the ABIs in use, sorted by number
	unknown []string
	notify  bool
}

// handOver are the calls that a process makes between its filter's installation and
// the moment when somebody listens.
var handOver = []string{"write", "sendmsg", "dup3"}

// collect sorts the rules by ABI and number.
func (c *compiler) collect(rules []specs.LinuxSyscall, use []abi) error {
	type pair struct {
		nr     uint32
		action int32
	}
	pairs := make([][]pair, len(use))
	nrs := make([]uint32, 0, 2)
	for i, r := range rules {
		first := len(c.actions)
		if err := c.addActions(r); err != nil {
			return fmt.Errorf("syscalls[%d]: %w", i, err)
		}
		for _, name := range r.Names {
			index, ok := callIndex(name)
			if !ok {
				if !slices.Contains(c.unknown, name) {
					c.unknown = append(c.unknown, name)
				}
				continue
			}
			if r.Action == specs.ActNotify {
				if slices.Contains(handOver, name) {
					return fmt.Errorf("syscalls[%d]: SCMP_ACT_NOTIFY cannot be used for the %s syscall: the listener is handed over, or a failed start is reported, by it", i, name)
				}
				c.notify = true
			}
			for j := range use {
				nrs = use[j].numbers(nrs[:0], index, name)
				for _, nr := range nrs {
					for k := first; k < len(c.actions); k++ {
						pairs[j] = append(pairs[j], pair{nr, int32(k)})
					}
				}
			}
		}
	}
	c.perABI = make([][]call, len(use))
	for j := range use {
		slices.SortStableFunc(pairs[j], func(a, b pair) int {
			if a.nr != b.nr {
				return cmp.Compare(a.nr, b.nr)
			}
			return cmp.Compare(rank(c.actions[a.action].ret), rank(c.actions[b.action].ret))
		})
		calls := make([]call, 0, len(pairs[j]))
		for _, p := range pairs[j] {
			if n := len(calls); n == 0 || calls[n-1].nr != p.nr {
				calls = append(calls, call{nr: p.nr})
			}
			last := &calls[len(calls)-1]
			last.actions = append(last.actions, p.action)
		}
		c.perABI[j] = calls
	}
	return nil
}

// addActions appends r's verdict, once for each alternative.
func (c *compiler) addActions(r specs.LinuxSyscall) error {
	ret, err := verdict(r.Action, r.ErrnoRet)
	if err != nil {
		return err
	}
	if len(r.Names) == 0 {
		return errors.New("names is empty")
	}
	var seen [6]bool
	either := false
	for i, a := range r.Args {
		if err := checkArg(a); err != nil {
			return fmt.Errorf("args[%d]: %w", i, err)
		}
		either = either || seen[a.Index]
		seen[a.Index] = true
	}
	if !either {
		c.actions = append(c.actions, action{ret, r.Args})
		return nil
	}
	// runc: "if a syscall has several conditions on one argument, each is a rule of its own".
	for i := range r.Args {
		c.actions = append(c.actions, action{ret, r.Args[i : i+1]})
	}
	return nil
}

// rank orders verdicts as the kernel does when several filters answer: the signed action, lowest wins.
func rank(ret uint32) int32 { return int32(ret & unix.SECCOMP_RET_ACTION_FULL) }

// permissive tells a default action that lets unknown calls through.
func permissive(ret uint32) bool {
	r := ret & unix.SECCOMP_RET_ACTION_FULL
	return r == unix.SECCOMP_RET_ALLOW || r == unix.SECCOMP_RET_LOG
}
