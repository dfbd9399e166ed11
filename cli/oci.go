package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hull/command"
	"hull/engine"
	"hull/oci"
	"hull/ociruntime"
	"hull/userns"
)

// ociSession is the program in its part as an OCI runtime: the command line of runc.
type ociSession struct {
	*session
	root, log, logFormat, rootless, criu string
	debug, systemd, version              bool
	logFile                              *os.File
}

// ociNodes are the runtime's rows. "oci" takes everything behind it, since the
// runtime's own global flags stand before its command; the others are there to be listed.
func (s *session) ociNodes() []command.Node {
	o := &ociSession{session: s}
	rows := []command.Node{{Path: "oci", Short: "Run containers from OCI bundles, as runc does", Build: o.command}}
	for _, n := range o.rows() {
		n.Path = "oci " + n.Path
		rows = append(rows, n)
	}
	return rows
}

func (o *ociSession) rows() []command.Node {
	return []command.Node{
		{Path: "checkpoint", Short: "Write the processes of a container to a directory", Build: o.checkpoint},
		{Path: "create", Short: "Create a container", Build: o.create},
		{Path: "delete", Short: "Delete the resources of a container", Build: o.delete},
		{Path: "events", Short: "Print events and statistics of a container", Build: o.events},
		{Path: "exec", Short: "Run a process inside a container", Build: o.exec},
		{Path: "features", Short: "Print what this runtime can do", Build: o.features},
		{Path: "kill", Short: "Send a signal to a container's first process", Build: o.kill},
		{Path: "list", Short: "List the containers of this state directory", Build: o.list},
		{Path: "pause", Short: "Suspend all processes of a container", Build: o.pause},
		{Path: "ps", Short: "List the processes of a container", Build: o.ps},
		{Path: "resume", Short: "Continue all processes of a paused container", Build: o.resume},
		{Path: "restore", Short: "Let the processes of a checkpoint go on", Build: o.restore},
		{Path: "run", Short: "Create and run a container", Build: o.run},
		{Path: "spec", Short: "Write a config.json to begin with", Build: o.spec},
		{Path: "start", Short: "Run the program of a created container", Build: o.start},
		{Path: "state", Short: "Print the state of a container", Build: o.state},
		{Path: "update", Short: "Change limits of a container", Build: o.update},
		{Path: "version", Short: "Show the version", Build: o.showVersion, Hidden: true},
	}
}

// command is "oci" itself: it parses the runtime's command line with a tree of its own.
func (o *ociSession) command() *command.Command {
	return &command.Command{
		Usage: "[global options] COMMAND [options] [ARG...]",
		Raw:   true,
		Run: func(ctx context.Context, args []string) error {
			t := &command.Tree{
				Program: "hull-runtime", Long: "Run containers from OCI bundles", Nodes: o.rows(),
				Globals: o.declare, Stdout: o.stdout, Stderr: o.stderr,
				Unknown: "No help topic for '%s'", // runc's words
			}
			code := t.Execute(ctx, args)
			if code == command.CodeEngine {
				code = 1
			}
			return exitCode(code)
		},
	}
}

func (o *ociSession) declare(f *command.Flags) {
	f.StringVar(&o.root, "root", "", "Directory of the containers' state (default /run/hull/oci, or $XDG_RUNTIME_DIR/hull/oci)")
	f.StringVar(&o.log, "log", "", "File for the log instead of standard error")
	f.StringVar(&o.logFormat, "log-format", "text", "Format of the log: text or json")
	f.StringVar(&o.rootless, "rootless", "auto", "Go on where cgroups are not permitted: true, false or auto")
	f.BoolVar(&o.debug, "debug", false, "Log more")
	f.BoolVar(&o.systemd, "systemd-cgroup", false, "Let systemd make cgroups: cgroupsPath is SLICE:PREFIX:NAME then")
	f.StringVar(&o.criu, "criu", "", "")
	f.BoolVarP(&o.version, "version", "v", false, "Print the version")
	f.Hide("criu")
}

// do wraps the work of a command: the runtime is opened, and an error is told as engines expect it.
func (o *ociSession) do(work func(ctx context.Context, r *ociruntime.Runtime, args []string) error) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		r, err := o.open()
		if err == nil && o.debug {
			o.report("debug", fmt.Sprintf("hull-runtime %q, state in %s", os.Args[1:], r.Root))
		}
		if err == nil {
			err = work(ctx, r, args)
		}
		var exit *command.Exit
		if errors.As(err, &exit) && exit.Err == nil || err == nil {
			return err
		}
		code := 1
		if exit != nil {
			code = exit.Code
		}
		o.report("error", err.Error())
		if o.logFile != nil {
			fmt.Fprintln(o.stderr, command.Printable(err.Error()))
		}
		return &command.Exit{Code: code}
	}
}

func (o *ociSession) open() (*ociruntime.Runtime, error) {
	if o.logFormat != "text" && o.logFormat != "json" {
		return nil, fmt.Errorf("unknown log format %q", o.logFormat)
	}
	if o.log != "" {
		f, err := os.OpenFile(o.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_SYNC, 0o644)
		if err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
		o.logFile = f
	}
	r := &ociruntime.Runtime{Root: o.root, SystemdCgroup: o.systemd, Rootless: userns.Rootless(), Warn: func(text string) { o.report("warning", text) }}
	switch o.rootless {
	case "auto", "":
	default:
		v, err := strconv.ParseBool(o.rootless)
		if err != nil {
			return nil, fmt.Errorf("--rootless %q: want true, false or auto", o.rootless)
		}
		r.Rootless = v
	}
	if r.Root == "" {
		r.Root = "/run/hull/oci"
		if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && os.Geteuid() != 0 {
			r.Root = filepath.Join(dir, "hull/oci")
		}
	}
	var err error
	r.Root, err = filepath.Abs(r.Root)
	return r, err
}

// report writes one line of the log.
func (o *ociSession) report(level, text string) {
	w := o.stderr
	if o.logFile != nil {
		w = o.logFile
	}
	now := time.Now().Format(time.RFC3339)
	if o.logFormat == "json" {
		line, err := json.Marshal(struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
			Time  string `json:"time"`
		}{level, text, now})
		if err == nil {
			fmt.Fprintf(w, "%s\n", line)
		}
		return
	}
	fmt.Fprintf(w, "time=%q level=%s msg=%q\n", now, level, text)
}

func (o *ociSession) showVersion() *command.Command {
	var short bool
	return &command.Command{
		Flags: func(f *command.Flags) { f.BoolVar(&short, "short", false, "") },
		Run: func(context.Context, []string) error {
			_, err := fmt.Fprintf(o.stdout, "hull-runtime version %s\nspec: %s\n", engine.Version(), oci.SpecVersion)
			return err
		},
	}
}

// id checks that there is one argument: the container's.
func oneID(path string, args []string) error {
	if len(args) != 1 {
		return &command.Exit{Code: 1, Err: fmt.Errorf("%q requires exactly 1 argument: the container's id", strings.TrimPrefix(path, "hull-runtime "))}
	}
	return nil
}
