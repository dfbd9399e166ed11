package plan

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// checkedPlan is a plan that Check accepts, with a step of the test's in one of its places.
func checkedPlan(place string, add func(b *Builder, root FD)) *Builder {
	b := NewBuilder()
	at := func(name string, root FD) {
		if name == place {
			add(b, root)
		}
	}
	b.Phase("begin")
	b.Cloexec(ReportFD)
	b.Inherit("control", nil)
	at("begin", 0)
	b.Prctl(unix.PR_SET_DUMPABLE, 0)
	b.Fork(unix.CLONE_NEWNS | unix.CLONE_NEWPID)
	b.Phase("root")
	b.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
	root, _ := b.OpenTree(CWD, "/root", unix.OPEN_TREE_CLONE)
	b.MoveMountPath(root, "/target")
	at("root", root)
	b.Fchdir(root)
	b.PivotRoot(".", ".")
	b.Umount2(".", unix.MNT_DETACH)
	b.Chdir("/")
	at("pivoted", root)
	b.Phase("wait")
	b.Created()
	b.Read(FirstFile, 1)
	b.CloexecRange(3, ^uint32(0))
	b.Prctl(unix.PR_CAPBSET_DROP, 3)
	b.Setgroups(nil)
	b.Setresgid(1)
	b.Setresuid(1)
	b.Capset(0, 0, 0)
	at("credentials", root)
	b.Seccomp(0, make([]byte, 8))
	at("sealed", root)
	b.Execve("/bin/true", []string{"true"}, nil)
	at("end", root)
	return b
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, place string
		add         func(b *Builder, root FD)
		want        string // "" is no error
	}{
		{"good", "", nil, ""},
		{"two forks", "begin", func(b *Builder, _ FD) { b.Fork(0) }, "2 forks"},
		{"shown", "begin", func(b *Builder, _ FD) { b.Prctl(unix.PR_SET_DUMPABLE, 1) }, "shows its memory"},
		{"joined too early", "begin", func(b *Builder, _ FD) {
			f, _ := b.Openat(CWD, "/proc/1/ns/net", unix.O_CLOEXEC)
			b.Setns(f, 0)
		}, "joins before"},
		{"mounted too early", "begin", func(b *Builder, _ FD) { b.Mount("none", "/mnt", "tmpfs", 0, "") }, "mounts before"},
		{"not close-on-exec", "begin", func(b *Builder, _ FD) { b.Openat(CWD, "/etc", unix.O_RDONLY) }, "not close-on-exec"},
		{"no result", "begin", func(b *Builder, _ FD) {
			_, call := b.Openat(CWD, "/etc", unix.O_CLOEXEC)
			call.Accept(unix.ENOENT)
		}, "leaves no result"},
		{"no result, skipped", "begin", func(b *Builder, _ FD) {
			f, call := b.Openat(CWD, "/etc", unix.O_CLOEXEC)
			call.Accept(unix.ENOENT)
			b.Close(f)
			call.SkipOnErrno()
		}, ""},
		{"no result, made again", "begin", func(b *Builder, _ FD) {
			f, call := b.Openat2(CWD, "/etc", unix.O_CLOEXEC, 0)
			call.Accept(unix.ENOENT)
			b.Openat2Again(f, CWD, "/", unix.O_CLOEXEC, 0)
			call.SkipOnSuccess()
		}, ""},
		{"in the root by name", "root", func(b *Builder, root FD) {
			b.Mkdirat(root, "a/b", 0o755)
		}, "several elements"},
		{"link in the root", "root", func(b *Builder, root FD) { b.Openat(root, "a", unix.O_CLOEXEC) }, "may be a link"},
		{"out of the root", "root", func(b *Builder, root FD) { b.Openat2(root, "a", unix.O_CLOEXEC, 0) }, "may leave"},
		{"in the root", "root", func(b *Builder, root FD) {
			f, _ := b.Openat2(root, "a/b", unix.O_CLOEXEC|unix.O_PATH, unix.RESOLVE_IN_ROOT)
			b.Mkdirat(f, "c", 0o755)
		}, ""},
		{"through the root", "root", func(b *Builder, _ FD) { b.OpenTree(CWD, "/target/etc", 0) }, "through the container's root"},
		{"mount by path", "root", func(b *Builder, _ FD) { b.Mount("none", "/target/proc", "proc", 0, "") }, "mounts by path"},
		{"container's path", "pivoted", func(b *Builder, _ FD) { b.WriteFile(CWD, "/proc/sys/x", "1") }, "resolved by name"},
		{"no wait", "pivoted", func(b *Builder, _ FD) { b.Created(); b.Setsid() }, "goes on"},
		{"four waits", "pivoted", func(b *Builder, _ FD) {
			for range 3 {
				b.Created()
				b.Read(FirstFile, 1)
			}
		}, "at most"},
		{"bounding set too late", "credentials", func(b *Builder, _ FD) { b.Prctl(unix.PR_CAPBSET_DROP, 5) }, "bounding set"},
		{"groups too late", "credentials", func(b *Builder, _ FD) { b.Setgroups(nil) }, "after the user"},
		{"behind the filter", "sealed", func(b *Builder, _ FD) { b.Chdir("/") }, "after the seccomp filter"},
		{"open end", "end", func(b *Builder, _ FD) { b.Setsid() }, "may return"},
	} {
		err := Check(mustPlan(t, checkedPlan(c.place, c.add)))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: Check = %v, want %q", c.name, err, c.want)
		}
	}
}

func TestCheckDescriptors(t *testing.T) {
	b := NewBuilder()
	b.Cloexec(ReportFD)
	b.Close(ConsoleFD)
	f := b.Inherit("secret", nil)
	b.Execve("/bin/true", nil, nil)
	if err := Check(mustPlan(t, b)); err == nil || !strings.Contains(err.Error(), "descriptor 5 is passed on") {
		t.Errorf("Check = %v", err)
	}
	b = NewBuilder()
	b.Cloexec(ReportFD)
	b.Close(ConsoleFD)
	b.Dup3(f, 0, false)
	b.Close(f)
	b.Execve("/bin/true", nil, nil).Accept(unix.ENOENT)
	if err := Check(mustPlan(t, b)); err == nil || !strings.Contains(err.Error(), "may return") {
		t.Errorf("Check = %v", err)
	}
}

// FuzzCheck builds plans of arbitrary steps: nothing that Builder lets pass
// may make Check, String or Image fail otherwise than by an error.
func FuzzCheck(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17})
	f.Fuzz(func(t *testing.T, script []byte) {
		b := NewBuilder()
		fds := []FD{0, CWD, ReportFD, b.Inherit("x", nil)}
		var open []Call
		for i, op := range script {
			if i > 2000 {
				break
			}
			fd := fds[int(op>>4)%len(fds)]
			switch op % 16 {
			case 0:
				r, c := b.Openat(fd, "a", unix.O_CLOEXEC)
				fds, open = append(fds, r), append(open, c)
			case 1:
				r, c := b.Openat2(fd, "a/b", unix.O_CLOEXEC, unix.RESOLVE_IN_ROOT)
				fds, open = append(fds, r), append(open, c.Accept(unix.ENOENT))
			case 2:
				b.Close(fd)
			case 3:
				if len(open) > 0 {
					open[len(open)-1].SkipOnErrno()
					open = open[:len(open)-1]
				}
			case 4:
				b.Fork(unix.CLONE_NEWNS)
			case 5:
				b.Execve("/x", []string{"x"}, nil).Accept(unix.ENOENT)
			case 6:
				b.MoveMountPath(fd, "/target")
			case 7:
				b.PivotRoot(".", ".")
			case 8:
				b.Prctl(unix.PR_SET_DUMPABLE, uintptr(op>>7))
			case 9:
				b.Seccomp(0, make([]byte, 8))
			case 10:
				b.Capset(1, 2, 3)
			case 11:
				b.Created()
			case 12:
				b.Read(fd, 1)
			case 13:
				b.Phase("next")
			case 14:
				b.MountSetattr(fd, MountAttr{Set: uint64(op)})
			case 15:
				b.Exit(0)
			}
		}
		p, err := b.Plan()
		if err != nil {
			return
		}
		_ = Check(p)
		_ = p.String()
		if _, err := p.Image(); err != nil {
			t.Fatal(err)
		}
	})
}
