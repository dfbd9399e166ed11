package plan

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Setns joins the namespaces in flags (CLONE_NEW…; 0 for any) of f, a namespace or a pidfd.
func (b *Builder) Setns(f FD, flags int) Call {
	return b.call(unix.SYS_SETNS, f.word(), num(flags))
}

// Unshare makes new namespaces.
func (b *Builder) Unshare(flags int) Call { return b.call(unix.SYS_UNSHARE, num(flags)) }

// Fork clones with flags (CLONE_NEW…) and lets the child go on as a child of
// whoever launched the plan. The parent reports the child's pid and exits.
func (b *Builder) Fork(flags int) Call {
	c := b.call(unix.SYS_CLONE, num(uint64(flags)|unix.CLONE_PARENT|uint64(unix.SIGCHLD)), num(0), num(0), num(0), num(0))
	c.step().flags |= flagFork
	return c
}

// ForkIntoCgroup is Fork into the cgroup (version 2) whose directory is open
// as cgroup, a known number.
func (b *Builder) ForkIntoCgroup(flags int, cgroup FD) Call {
	args := make([]word, 11) // struct clone_args, CLONE_ARGS_SIZE_VER2
	// clone3 takes the exit signal of the caller with CLONE_PARENT and refuses another.
	args[0] = num(uint64(flags) | unix.CLONE_PARENT | unix.CLONE_INTO_CGROUP)
	args[10] = num(uint64(cgroup))
	c := b.call(unix.SYS_CLONE3, b.structure(args...), num(88))
	c.step().flags |= flagFork
	return c
}

// Branch clones; the child runs the following steps, which must end in execve or
// exit, and the parent goes on where SkipOnNonzero is called. The result is the child's pid.
func (b *Builder) Branch() (FD, Call) {
	c := b.call(unix.SYS_CLONE, num(uint64(unix.SIGCHLD)), num(0), num(0), num(0), num(0))
	return c.result(), c
}

// Reap turns the process into an init: it passes every signal on to child,
// reaps whatever dies, and exits as child did. All signals must be blocked.
func (b *Builder) Reap(child FD) Call {
	return b.call(callReap, child.word(), b.constant(^uint64(0)))
}

// Prctl does a prctl with numbers.
func (b *Builder) Prctl(option int, args ...uintptr) Call {
	w := []word{num(option), num(0), num(0), num(0), num(0)}
	for i, a := range args {
		w[1+i] = num(a)
	}
	return b.call(unix.SYS_PRCTL, w...)
}

// SetName sets the name that ps shows, of which the kernel keeps 15 bytes.
func (b *Builder) SetName(name string) Call {
	return b.call(unix.SYS_PRCTL, num(unix.PR_SET_NAME), b.str(name), num(0), num(0), num(0))
}

// Capset sets the effective, permitted and inheritable capabilities, one bit each.
func (b *Builder) Capset(effective, permitted, inheritable uint64) Call {
	hdr := b.constant(unix.LINUX_CAPABILITY_VERSION_3)
	var data []byte
	for _, shift := range []uint{0, 32} {
		for _, set := range []uint64{effective, permitted, inheritable} {
			data = binary.NativeEndian.AppendUint32(data, uint32(set>>shift))
		}
	}
	return b.call(unix.SYS_CAPSET, hdr, b.bytes(data))
}

// Seccomp installs a filter of classic BPF instructions, 8 bytes each.
func (b *Builder) Seccomp(flags uint, filter []byte) Call {
	prog := b.structure(num(len(filter)/8), b.bytes(filter))
	return b.call(unix.SYS_SECCOMP, num(unix.SECCOMP_SET_MODE_FILTER), num(uint64(flags)), prog)
}

// SeccompListener is Seccomp with SECCOMP_FILTER_FLAG_NEW_LISTENER; the result is the listener.
func (b *Builder) SeccompListener(flags uint, filter []byte) (FD, Call) {
	c := b.Seccomp(flags|unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, filter)
	return c.result(), c
}

// Execve executes path.
func (b *Builder) Execve(path string, argv, env []string) Call {
	return b.call(unix.SYS_EXECVE, b.str(path), b.vector(argv), b.vector(env))
}

// vector stores a vector of strings, once for each backing array.
func (b *Builder) vector(v []string) word {
	n := 0
	for _, s := range v {
		n += len(s) + 1
	}
	key := make([]byte, 1, 2+n)
	key[0] = 1 // never the key of a constant, nor of a string
	key = append(key, 0)
	for _, s := range v {
		key = append(append(key, s...), 0)
	}
	if off, ok := b.strings[string(key)]; ok {
		return word{v: uint64(off), ptr: true}
	}
	w := b.strs(v)
	b.strings[string(key)] = uint32(w.v)
	return w
}

// Execveat executes what f is open on.
func (b *Builder) Execveat(f FD, argv, env []string) Call {
	return b.call(unix.SYS_EXECVEAT, f.word(), b.str(""), b.vector(argv), b.vector(env), num(unix.AT_EMPTY_PATH))
}

// Exit ends the process.
func (b *Builder) Exit(status int) Call { return b.call(unix.SYS_EXIT_GROUP, num(status)) }

// Setsid begins a new session.
func (b *Builder) Setsid() Call { return b.call(unix.SYS_SETSID) }

// Setpgid makes the process the leader of a new process group.
func (b *Builder) Setpgid() Call { return b.call(unix.SYS_SETPGID, num(0), num(0)) }

// Setgroups sets the supplementary groups.
func (b *Builder) Setgroups(gids []uint32) Call {
	var data []byte
	for _, g := range gids {
		data = binary.NativeEndian.AppendUint32(data, g)
	}
	p := word{}
	if len(gids) > 0 {
		p = b.bytes(data)
	}
	return b.call(unix.SYS_SETGROUPS, num(len(gids)), p)
}

// Setresuid sets the real, effective and saved user.
func (b *Builder) Setresuid(uid uint32) Call {
	return b.call(unix.SYS_SETRESUID, num(uid), num(uid), num(uid))
}

// Setresgid sets the real, effective and saved group.
func (b *Builder) Setresgid(gid uint32) Call {
	return b.call(unix.SYS_SETRESGID, num(gid), num(gid), num(gid))
}

// Umask sets the file mode creation mask.
func (b *Builder) Umask(mask uint32) Call { return b.call(unix.SYS_UMASK, num(mask)) }

// Setrlimit sets the soft and hard limit of a resource.
func (b *Builder) Setrlimit(resource int, soft, hard uint64) Call {
	return b.call(unix.SYS_PRLIMIT64, num(0), num(resource), b.constant(soft, hard), word{})
}

// Sethostname sets the host name of the UTS namespace.
func (b *Builder) Sethostname(name string) Call {
	return b.call(unix.SYS_SETHOSTNAME, b.str(name), num(len(name)))
}

// Setdomainname sets the NIS domain name of the UTS namespace.
func (b *Builder) Setdomainname(name string) Call {
	return b.call(unix.SYS_SETDOMAINNAME, b.str(name), num(len(name)))
}

// JoinSessionKeyring makes a new session keyring of the given name.
func (b *Builder) JoinSessionKeyring(name string) Call {
	return b.call(unix.SYS_KEYCTL, num(unix.KEYCTL_JOIN_SESSION_KEYRING), b.str(name))
}

// Personality sets the execution domain.
func (b *Builder) Personality(persona uint64) Call {
	return b.call(unix.SYS_PERSONALITY, num(persona))
}

// IoprioSet sets the I/O priority of the process.
func (b *Builder) IoprioSet(prio int) Call {
	return b.call(unix.SYS_IOPRIO_SET, num(1), num(0), num(prio))
}

// SchedSetattr sets the scheduling policy; attr is struct sched_attr.
func (b *Builder) SchedSetattr(attr []byte) Call {
	return b.call(unix.SYS_SCHED_SETATTR, num(0), b.bytes(attr), num(0))
}

// SchedSetaffinity sets the CPUs that the process may run on.
func (b *Builder) SchedSetaffinity(mask []byte) Call {
	return b.call(unix.SYS_SCHED_SETAFFINITY, num(0), num(len(mask)), b.bytes(mask))
}

// SetMempolicy sets the NUMA policy; nodes is the node mask, bits nodes long.
func (b *Builder) SetMempolicy(mode int, nodes []byte, bits int) Call {
	p := word{}
	if len(nodes) > 0 {
		p = b.bytes(nodes)
	}
	return b.call(unix.SYS_SET_MEMPOLICY, num(mode), p, num(bits))
}

// Sigprocmask blocks (SIG_BLOCK) or unblocks (SIG_SETMASK with 0) signals.
func (b *Builder) Sigprocmask(how int, set uint64) Call {
	return b.call(unix.SYS_RT_SIGPROCMASK, num(how), b.constant(set), word{}, num(8))
}

// IgnoreSignal ignores sig.
func (b *Builder) IgnoreSignal(sig unix.Signal) Call {
	return b.call(unix.SYS_RT_SIGACTION, num(int(sig)), b.constant(1 /* SIG_IGN */, 0, 0, 0), word{}, num(8))
}

// Sigwait waits until one of the signals in set, which must be blocked, arrives.
func (b *Builder) Sigwait(set uint64) Call {
	return b.call(unix.SYS_RT_SIGTIMEDWAIT, b.constant(set), word{}, word{}, num(8))
}
