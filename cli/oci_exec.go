package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"hull/command"
	"hull/oci"
	"hull/ociruntime"
)

// ociExecFlags are those of exec.
type ociExecFlags struct {
	ociruntime.ExecOptions
	process, cwd, user, label, apparmor string
	env, caps                           []string
	groups                              []int
	tty, noNewPrivs                     bool
}

func (e *ociExecFlags) declare(f *command.Flags) {
	f.StringVar(&e.ConsoleSocket, "console-socket", "", "Path to a Unix socket that gets the terminal's master")
	f.StringVar(&e.cwd, "cwd", "", "Working directory in the container")
	f.StringArrayVarP(&e.env, "env", "e", nil, "Environment variable NAME=VALUE")
	f.BoolVarP(&e.tty, "tty", "t", false, "Give the process a terminal")
	f.StringVarP(&e.user, "user", "u", "", "UID[:GID]")
	f.IntSliceVarP(&e.groups, "additional-gids", "g", nil, "Additional groups")
	f.StringVarP(&e.process, "process", "p", "", "File with the process's JSON")
	f.BoolVarP(&e.Detach, "detach", "d", false, "Return when the program runs")
	f.StringVar(&e.PidFile, "pid-file", "", "File to write the process's number to")
	f.StringVar(&e.label, "process-label", "", "SELinux label of the process")
	f.StringVar(&e.apparmor, "apparmor", "", "AppArmor profile of the process")
	f.BoolVar(&e.noNewPrivs, "no-new-privs", false, "Set no_new_privs")
	f.StringArrayVarP(&e.caps, "cap", "c", nil, "Capability to add")
	f.IntVar(&e.PreserveFDs, "preserve-fds", 0, "Pass this many descriptors from 3 on")
	f.StringArrayVar(&e.Cgroups, "cgroup", nil, "Group below the container's own to run in")
	f.BoolVar(&e.IgnorePaused, "ignore-paused", false, "Allow it in a paused container")
	var ignored bool
	f.BoolVar(&ignored, "no-subreaper", false, "")
	f.Hide("no-subreaper")
}

func (o *ociSession) exec() *command.Command {
	var e ociExecFlags
	return &command.Command{
		Usage: "[options] ID COMMAND [ARG...]", ArgsEndFlags: true, Flags: e.declare,
		Args: func(_ string, args []string) error {
			if len(args) == 0 {
				return &command.Exit{Code: 1, Err: errors.New(`"exec" requires a minimum of 1 argument`)}
			}
			return nil
		},
		Run: o.do(func(ctx context.Context, r *ociruntime.Runtime, args []string) error {
			code, err := o.runExec(ctx, r, &e, args)
			if err != nil {
				return command.WithCode(255, fmt.Errorf("exec failed: %w", err))
			}
			return exitCode(code)
		}),
	}
}

func (o *ociSession) runExec(ctx context.Context, r *ociruntime.Runtime, e *ociExecFlags, args []string) (int, error) {
	c, err := r.Load(args[0])
	if err != nil {
		return 0, err
	}
	if e.Process, err = e.build(c.Spec.Process, args[1:]); err != nil {
		return 0, err
	}
	e.Stdin, e.Stdout, e.Stderr = o.stdin, o.stdout, o.stderr
	e.PreserveFDs += listenFDs()
	if err := checkInherited(e.PreserveFDs, nil); err != nil {
		return 0, err
	}
	return o.follow(e.Process, e.Detach || e.ConsoleSocket != "", e.Detach, &e.Console, func(started func(int)) (int, error) {
		e.Started = started
		return r.Exec(ctx, args[0], e.ExecOptions)
	})
}

// build makes the process from a file, or from the container's own and the flags.
func (e *ociExecFlags) build(own *oci.Process, args []string) (*oci.Process, error) {
	if e.process != "" {
		data, err := os.ReadFile(e.process)
		if err != nil {
			return nil, err
		}
		p, err := ociruntime.DecodeProcess(data)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", e.process, err)
		}
		return p, nil
	}
	if own == nil {
		own = &oci.Process{Cwd: "/"}
	}
	p := *own
	p.Args, p.Terminal = args, e.tty
	if e.cwd != "" {
		p.Cwd = e.cwd
	}
	if e.label != "" {
		p.SelinuxLabel = e.label
	}
	if e.apparmor != "" {
		p.ApparmorProfile = e.apparmor
	}
	p.NoNewPrivileges = p.NoNewPrivileges || e.noNewPrivs
	p.Env = append(slices.Clone(p.Env), e.env...)
	if len(e.caps) > 0 && p.Capabilities != nil {
		caps := *p.Capabilities
		for _, set := range []*[]string{&caps.Bounding, &caps.Effective, &caps.Permitted} {
			*set = append(slices.Clone(*set), e.caps...)
		}
		p.Capabilities = &caps
	} else if len(e.caps) > 0 {
		p.Capabilities = &oci.LinuxCapabilities{Bounding: e.caps, Effective: e.caps, Permitted: e.caps}
	}
	if e.user != "" {
		uid, gid, err := parseUser(e.user)
		if err != nil {
			return nil, err
		}
		p.User = oci.User{UID: uid, GID: gid, AdditionalGids: p.User.AdditionalGids}
	}
	for _, g := range e.groups {
		if g < 0 {
			return nil, fmt.Errorf("additional gid cannot be negative: %d", g)
		}
		p.User.AdditionalGids = append(slices.Clone(p.User.AdditionalGids), uint32(g))
	}
	return &p, nil
}

func (o *ociSession) ps() *command.Command {
	var form string
	return &command.Command{
		Usage: "[options] ID [PS-OPTION...]", Args: command.AtLeast(1), ArgsEndFlags: true,
		Flags: func(f *command.Flags) { f.StringVarP(&form, "format", "f", "table", "table or json") },
		Run: o.do(func(_ context.Context, r *ociruntime.Runtime, args []string) error {
			pids, err := r.Pids(args[0])
			if err != nil {
				return err
			}
			if form == "json" {
				if pids == nil {
					pids = []int{}
				}
				return json.NewEncoder(o.stdout).Encode(pids)
			}
			if form != "table" {
				return errors.New("invalid format option")
			}
			return o.filterPS(pids, args[1:])
		}),
	}
}

// filterPS prints the lines of the host's ps that are about pids.
func (o *ociSession) filterPS(pids []int, args []string) error {
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	out, err := exec.Command("ps", args...).Output()
	if err != nil {
		return fmt.Errorf("ps: %w", err)
	}
	lines := strings.Split(string(out), "\n")
	at := slices.Index(strings.Fields(lines[0]), "PID")
	if at < 0 {
		return errors.New("couldn't find PID field in ps output")
	}
	fmt.Fprintln(o.stdout, lines[0])
	for _, l := range lines[1:] {
		w := strings.Fields(l)
		if len(w) <= at {
			continue
		}
		if pid, err := strconv.Atoi(w[at]); err == nil && slices.Contains(pids, pid) {
			fmt.Fprintln(o.stdout, l)
		}
	}
	return nil
}
