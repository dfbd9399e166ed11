package plan

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Check returns the first of the package's invariants that p breaks (see
// Invariants in the package's documentation), or nil. A plan that a compiler
// made and Check refuses is a bug of the compiler.
func Check(p *Plan) error {
	c := checker{p: p, made: make(map[uint8]int), open: map[FD]bool{ReportFD: true, ConsoleFD: true}}
	for i := range p.files {
		c.open[FirstFile+FD(i)] = true
	}
	forks := 0
	for _, s := range p.steps {
		if s.flags&flagFork != 0 {
			forks++
		}
		c.ownMaps = c.ownMaps || s.nr == unix.SYS_OPENAT && s.ptr&2 != 0 && p.cstring(s.args[1]) == "/proc/self/uid_map"
	}
	if forks > 1 {
		return fmt.Errorf("check plan: %d forks: whoever waits for the process knows one", forks)
	}
	for i := range p.steps {
		c.i, c.s = i, &p.steps[i]
		for _, rule := range []func() string{c.flow, c.descriptors, c.hidden, c.paths, c.privileges, c.filter, c.waits} {
			if broken := rule(); broken != "" {
				return fmt.Errorf("check plan: step %d, %s: %s", i, p.StepText(i), broken)
			}
		}
	}
	return nil
}

// A checker walks over the steps; each rule sees every step and keeps what it
// must remember.
type checker struct {
	p *Plan
	i int
	s *Step

	ownMaps bool          // the plan writes its own id maps, for which it must not hide yet
	made    map[uint8]int // slot to the step that last filled it
	open    map[FD]bool   // known descriptors that execve would pass on unasked
	hid     bool          // PR_SET_DUMPABLE 0 was seen
	attach  string        // where the container's root was attached
	mounted bool          // the container's root is attached
	pivoted bool
	wd      FD   // the descriptor that the working directory was changed to
	here    bool // the working directory is that of an open descriptor
	user    bool // setresuid to somebody
	capset  bool
	sealed  bool // a filter is installed
	waited  int
}

func (c *checker) str(i int) string {
	if c.s.ptr&(1<<i) == 0 {
		return ""
	}
	return c.p.cstring(c.s.args[i])
}

func (c *checker) fd(i int) FD { return FD(int64(c.s.args[i])) }

func (c *checker) accepts() bool { return c.s.ok[0] != 0 }

func (c *checker) isCall(nrs ...uint32) bool {
	for _, nr := range nrs {
		if c.s.nr == nr {
			return true
		}
	}
	return false
}

// flow: every jump lands on a step, every reference has a value, and the
// end is not run over.
func (c *checker) flow() string {
	s, last := c.s, c.i == len(c.p.steps)-1
	if _, known := calls(s.nr); !known {
		return "a plan has no such call"
	}
	if s.flags&(flagSkipErrno|flagSkipSuccess|flagSkipNonzero) != 0 && c.i+1+int(s.skip) >= len(c.p.steps) {
		return "skips over the end"
	}
	for _, slot := range s.ref {
		if _, ok := c.made[slot]; slot != slotNone && slot < slotScratch && !ok {
			return "uses a result that no step before it has"
		}
	}
	if s.keep != slotNone && c.accepts() && s.flags&flagSkipErrno == 0 && !c.madeAgain() {
		return "an accepted errno leaves no result, and the next step would use it"
	}
	if s.keep != slotNone {
		c.made[s.keep] = c.i
	}
	if last && (c.accepts() || !c.isCall(unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_EXIT_GROUP, callReap)) {
		return "the last step may return"
	}
	return ""
}

// madeAgain reports whether what success skips over makes the result by another way.
func (c *checker) madeAgain() bool {
	for j := c.i + 1; c.s.flags&flagSkipSuccess != 0 && j <= c.i+int(c.s.skip) && j < len(c.p.steps); j++ {
		if c.p.steps[j].keep == c.s.keep {
			return true
		}
	}
	return false
}

// descriptors: nothing is passed on to the program unasked.
func (c *checker) descriptors() string {
	const cloexec = unix.O_CLOEXEC
	s := c.s
	lacks := func(i int, flag uint64) string {
		if s.args[i]&flag == 0 {
			return "the descriptor is not close-on-exec"
		}
		return ""
	}
	switch s.nr {
	case unix.SYS_OPENAT:
		return lacks(2, cloexec)
	case unix.SYS_SOCKET:
		return lacks(1, cloexec)
	case unix.SYS_OPENAT2:
		if c.p.word(s.args[2])&cloexec == 0 {
			return "the descriptor is not close-on-exec"
		}
	case unix.SYS_OPEN_TREE:
		return lacks(2, unix.OPEN_TREE_CLOEXEC)
	case unix.SYS_FSOPEN:
		return lacks(1, unix.FSOPEN_CLOEXEC)
	case unix.SYS_FSMOUNT:
		return lacks(1, unix.FSMOUNT_CLOEXEC)
	case unix.SYS_IOCTL:
		if s.args[1] == unix.TIOCGPTPEER {
			return lacks(2, cloexec)
		}
	case unix.SYS_CLOSE:
		delete(c.open, c.fd(0))
	case unix.SYS_FCNTL:
		if s.args[1] == unix.F_SETFD && s.args[2]&unix.FD_CLOEXEC != 0 {
			delete(c.open, c.fd(0))
		}
	case unix.SYS_DUP3:
		// Whoever puts a descriptor on a number of his choice wants it passed on.
		if s.keep == slotReport && s.args[2]&cloexec == 0 {
			return "the report pipe must end with execve"
		}
		delete(c.open, c.fd(1))
	case unix.SYS_CLOSE_RANGE:
		for f := range c.open {
			if uint64(f) >= s.args[0] && uint64(f) <= s.args[1] {
				delete(c.open, f)
			}
		}
	case unix.SYS_EXECVE, unix.SYS_EXECVEAT:
		for f := range c.open {
			return "descriptor " + fdName(f) + " is passed on to the program"
		}
	}
	return ""
}

// hidden: nobody in the container can look into the process, nor use it.
func (c *checker) hidden() string {
	s := c.s
	if s.nr == unix.SYS_PRCTL && s.args[0] == unix.PR_SET_DUMPABLE {
		if c.hid = s.args[1] == 0; !c.hid {
			return "the process shows its memory"
		}
	}
	if c.hid {
		return ""
	}
	switch {
	case s.nr == unix.SYS_SETNS && !c.ownMaps:
		return "joins before PR_SET_DUMPABLE 0"
	case c.isCall(unix.SYS_FSMOUNT, unix.SYS_MOVE_MOUNT, unix.SYS_PIVOT_ROOT), s.nr == unix.SYS_MOUNT && s.args[3]&(unix.MS_SLAVE|unix.MS_PRIVATE) == 0:
		return "mounts before PR_SET_DUMPABLE 0"
	}
	return ""
}

// paths: once the container's root is attached its files are reached by
// descriptors that cannot leave it.
func (c *checker) paths() string {
	s := c.s
	switch {
	case s.nr == unix.SYS_FCHDIR:
		c.wd, c.here = c.fd(0), true
	case s.nr == unix.SYS_CHDIR:
		c.here = false
	case s.nr == unix.SYS_PIVOT_ROOT, s.nr == unix.SYS_CHROOT:
		// A plan that joins is given the root.
		given := s.nr == unix.SYS_CHROOT && c.wd >= FirstFile && int(c.wd-FirstFile) < len(c.p.files)
		if !c.mounted && !given {
			return "there is no root to change to"
		}
		c.pivoted = true
		return ""
	case s.nr == unix.SYS_MOVE_MOUNT && c.fd(2) == CWD, s.nr == unix.SYS_MOUNT && s.args[3]&(unix.MS_SLAVE|unix.MS_PRIVATE|unix.MS_SHARED|unix.MS_UNBINDABLE) == 0:
		if c.mounted && s.args[3]&unix.MS_MOVE == 0 {
			if s.nr == unix.SYS_MOUNT && c.here && c.str(1) == "." {
				return "" // on an open directory
			}
			return "mounts by path after the root is attached"
		}
		c.mounted = true
		if c.attach = c.str(3); s.nr == unix.SYS_MOUNT {
			c.attach = c.str(1)
		}
		return ""
	}
	return c.resolved()
}

// resolved judges a step with a path.
func (c *checker) resolved() string {
	s := c.s
	path, at := 1, 0
	switch s.nr {
	case unix.SYS_OPENAT, unix.SYS_MKDIRAT, unix.SYS_MKNODAT, unix.SYS_FCHOWNAT, unix.SYS_OPENAT2, unix.SYS_OPEN_TREE, unix.SYS_FACCESSAT2:
	case unix.SYS_SYMLINKAT:
		path, at = 2, 1
	default:
		return ""
	}
	name, dir := c.str(path), c.fd(at)
	if dir == CWD {
		switch {
		case c.pivoted && s.nr != unix.SYS_FACCESSAT2:
			return "a path of the container is resolved by name"
		case c.mounted && strings.HasPrefix(name, strings.TrimSuffix(c.attach, "/")+"/"):
			return "the path leads through the container's root"
		case !strings.HasPrefix(name, "/"):
			return "the path depends on the working directory"
		}
		return ""
	}
	if s.nr == unix.SYS_OPENAT2 {
		if c.p.word(s.args[2]+16)&(unix.RESOLVE_IN_ROOT|unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS) == 0 {
			return "the path may leave its directory"
		}
		return ""
	}
	if name == ".." || strings.Contains(name, "/") {
		return "the path has several elements and may leave its directory: openat2 is needed"
	}
	if s.nr == unix.SYS_OPENAT && s.args[2]&unix.O_NOFOLLOW == 0 {
		return "the last element may be a link"
	}
	return ""
}

// privileges go in the order in which each can still be given up.
func (c *checker) privileges() string {
	s := c.s
	switch s.nr {
	case unix.SYS_PRCTL:
		if s.args[0] == unix.PR_CAPBSET_DROP && c.capset {
			return "the bounding set goes after the capabilities"
		}
	case unix.SYS_CAPSET:
		c.capset = true
	case unix.SYS_SETRESUID:
		c.user = c.user || s.args[0] != 0
	case unix.SYS_SETRESGID, unix.SYS_SETGROUPS:
		if c.user {
			return "groups are set after the user"
		}
	}
	return ""
}

// afterFilter are the calls that may follow the seccomp filter, which must let
// them pass: few, and such as any program makes.
var afterFilter = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_EXIT_GROUP, unix.SYS_CAPSET, unix.SYS_PRCTL, unix.SYS_CLONE, unix.SYS_SETSID,
	unix.SYS_CLOSE, unix.SYS_CLOSE_RANGE, unix.SYS_DUP3, unix.SYS_SENDMSG, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGACTION,
	unix.SYS_RT_SIGTIMEDWAIT, callReap, unix.SYS_SETPGID, unix.SYS_IOCTL,
}

// filter: nothing but the last words comes after a seccomp filter.
func (c *checker) filter() string {
	if c.sealed && !c.isCall(afterFilter...) {
		return "comes after the seccomp filter, which may deny it"
	}
	if c.s.nr == unix.SYS_SECCOMP {
		c.sealed = true
	}
	return ""
}

// waits: at most three, each announced and ended by a byte.
func (c *checker) waits() string {
	s := c.s
	if s.nr != unix.SYS_WRITE || s.ref[0] != slotReport {
		return ""
	}
	if c.waited++; c.waited > 3 {
		return "a plan waits at most for maps, hooks and start"
	}
	if c.i+1 < len(c.p.steps) && c.p.steps[c.i+1].nr != unix.SYS_READ {
		return "says that it waits and goes on"
	}
	return ""
}
