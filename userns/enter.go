package userns

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"hull/plan"
)

// Enter replaces this process by the program at path, with the arguments and
// environment given, inside the user's namespaces, which it makes when they
// are not there. It returns only when that fails.
func Enter(ctx context.Context, runDir, path string, argv, env []string) error {
	h, err := holder(ctx, runDir)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(h.Pid, 0)
	if err != nil {
		return fmt.Errorf("enter user namespace: open process %d: %w", h.Pid, err)
	}
	// What this process inherited keeps its number; ours lies above, and the
	// plan closes it.
	pidfd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 100)
	unix.Close(fd)
	if err != nil {
		return fmt.Errorf("enter user namespace: %w", err)
	}
	cwd, err := os.Getwd()
	if err != nil {
		cwd = "/"
	}
	p, err := joinPlan(plan.FD(pidfd), cwd, path, argv, env)
	if err != nil {
		return err
	}
	image, err := p.Memfd()
	if err != nil {
		return err
	}
	err = unix.Exec("/proc/self/fd/"+strconv.Itoa(int(image.Fd())), []string{"hull-plan"}, []string{})
	return fmt.Errorf("enter user namespace: %w", err)
}

// joinPlan joins the namespaces and executes path. Nobody reads its report, so
// it says itself what went wrong.
func joinPlan(pidfd plan.FD, cwd, path string, argv, env []string) (*plan.Plan, error) {
	b := plan.NewBuilder()
	b.Phase("join")
	join := b.Setns(pidfd, unix.CLONE_NEWUSER|unix.CLONE_NEWNS).Accept(unix.EPERM, unix.ESRCH, unix.EINVAL, unix.ENOMEM)
	b.Close(pidfd)
	b.Chdir(cwd).Accept(unix.ENOENT, unix.EACCES, unix.ENOTDIR)
	b.Setresgid(0)
	b.Setresuid(0)
	b.Phase("execute")
	b.Execve(path, argv, env).Accept(unix.ENOENT, unix.EACCES, unix.EPERM, unix.ENOEXEC)
	b.Write(2, "Error: enter user namespace: "+path+" cannot be executed there\n")
	b.Exit(125)
	join.SkipOnErrno()
	b.Write(2, "Error: enter user namespace: the process that holds it is gone or not this user's; try again\n")
	b.Exit(125)
	return b.Plan()
}
