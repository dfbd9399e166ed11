package quadlet

import (
	"fmt"
	"slices"
	"strings"
)

// Wrapped is a container or pod that exists, for a service that starts it, or
// that makes it anew each time.
type Wrapped struct {
	Unit string // the service's name without .service
	// Name is the container's: name or ID; of a pod without New its infra
	// container's.
	Name        string
	PIDFile     string
	RunRoot     string
	BindsTo     []string // units without .service: its pod and what it needs
	Members     []string // of a pod: the units of its containers
	StopTimeout uint
	Restart     string // systemd's policy; "" is that of the options
	Retries     uint   // 0 is no limit

	// New says that the container is made anew. Global are hull's flags before
	// the command, and Flags, Args what the command line had.
	New         bool
	Pod         bool // Members are started with it
	PodIDFile   string
	Global      []string
	Flags, Args []string
	Notify      bool // a flag says who is to notify
}

// WrapOptions are what generate systemd's flags say.
type WrapOptions struct {
	Program                string
	Header                 []string // comment lines after the name's
	Restart                string
	RestartSec             *uint
	StartTimeout           *uint
	Wants, After, Requires []string
	Env                    []string
	Template               bool
}

// Wrap is the text of the service.
func Wrap(w Wrapped, o WrapOptions) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	name, about, self := w.Unit, "", "%n"
	if o.Template {
		name, about, self = w.Unit+"@", " for %I", "%n-%i"
	}
	line("# %s.service", name)
	for _, h := range o.Header {
		line("# %s", h)
	}
	line("\n[Unit]\nDescription=Hull %s.service%s", w.Unit, about)
	line("Documentation=man:hull-generate-systemd(1)\nWants=network-online.target\nAfter=network-online.target")
	if w.New && !w.Pod {
		line("RequiresMountsFor=%%t/hull")
	} else {
		line("RequiresMountsFor=%s", escaped(w.RunRoot))
	}
	units := func(names []string) string {
		var all []string
		for _, n := range names {
			all = append(all, n+".service")
		}
		return strings.Join(all, " ")
	}
	if len(w.Members) > 0 {
		line("Wants=%s\nBefore=%[1]s", units(w.Members))
	}
	if len(w.BindsTo) > 0 {
		line("BindsTo=%s\nAfter=%[1]s", units(w.BindsTo))
	}
	if len(o.Wants)+len(o.After)+len(o.Requires) > 0 {
		line("\n# User-defined dependencies")
	}
	for _, d := range []struct {
		key   string
		units []string
	}{{"Wants", o.Wants}, {"After", o.After}, {"Requires", o.Requires}} {
		if len(d.units) > 0 {
			line("%s=%s", d.key, strings.Join(d.units, " "))
		}
	}
	line("\n[Service]\nEnvironment=PODMAN_SYSTEMD_UNIT=%s", self)
	w.service(line, o)
	line("\n[Install]\nWantedBy=default.target")
	return b.String()
}

// service writes the lines of [Service] that differ.
func (w Wrapped) service(line func(string, ...any), o WrapOptions) {
	if !w.Pod {
		for _, kv := range o.Env {
			line("Environment=%s", escaped(kv))
		}
	}
	if w.Restart == "" {
		w.Restart = o.Restart
	}
	line("Restart=%s", w.Restart)
	if w.Retries > 0 {
		line("StartLimitBurst=%d", w.Retries)
	}
	if o.RestartSec != nil {
		line("RestartSec=%d", *o.RestartSec)
	}
	if o.StartTimeout != nil {
		line("TimeoutStartSec=%d", *o.StartTimeout)
	}
	// The time that systemd waits for what waits for the container.
	line("TimeoutStopSec=%d", w.StopTimeout+60)
	switch {
	case w.Pod && w.New:
		w.newPod(line, o)
	case w.New:
		w.newContainer(line, o)
	default:
		stop := w.command(o, "stop", "-t", fmt.Sprint(w.StopTimeout), w.Name)
		line("ExecStart=%s", strings.Join(w.command(o, "start", w.Name), " "))
		line("ExecStop=%s\nExecStopPost=%[1]s", folded(stop))
		line("PIDFile=%s\nType=forking", w.PIDFile)
	}
}

// command is a command line of hull, escaped for systemd.
func (w Wrapped) command(o WrapOptions, words ...string) []string {
	var all []string
	for _, word := range slices.Concat([]string{o.Program}, w.Global, words) {
		all = append(all, escaped(word))
	}
	return all
}

func (w Wrapped) newContainer(line func(string, ...any), o WrapOptions) {
	const id = "%t/%n.ctr-id"
	timeout := fmt.Sprint(w.StopTimeout)
	run := append(w.command(o, "run"), "--cidfile="+id, "--cgroups=no-conmon", "--rm")
	if w.PodIDFile != "" {
		run = append(run, "--pod-id-file", w.PodIDFile)
	}
	if !w.Notify {
		run = append(run, "--sdnotify=conmon")
	}
	run = append(run, "-d")
	if !slices.ContainsFunc(w.Flags, func(f string) bool { return strings.HasPrefix(f, "--replace") }) &&
		slices.ContainsFunc(w.Flags, func(f string) bool { return f == "--name" || strings.HasPrefix(f, "--name=") }) {
		run = append(run, "--replace")
	}
	for i, f := range w.Flags {
		f = escaped(f)
		if o.Template && i > 0 && w.Flags[i-1] == "--name" || o.Template && strings.HasPrefix(f, "--name=") {
			f += "-%i"
		}
		run = append(run, f)
	}
	for _, a := range w.Args {
		run = append(run, escaped(a))
	}
	line("ExecStartPre=/bin/rm \\\n\t-f %s", id)
	line("ExecStart=%s", folded(run))
	line("ExecStop=%s", folded(append(w.command(o, "stop", "--ignore", "-t", timeout), "--cidfile="+id)))
	line("ExecStopPost=%s", folded(append(w.command(o, "rm", "-f", "--ignore", "-t", timeout), "--cidfile="+id)))
	line("Type=notify\nNotifyAccess=all")
}

func (w Wrapped) newPod(line func(string, ...any), o WrapOptions) {
	id, pid := "%t/"+w.Unit+".pod-id", "%t/"+w.Unit+".pid"
	create := append(w.command(o, "pod", "create"), "--infra-conmon-pidfile", pid, "--pod-id-file", id)
	if !slices.ContainsFunc(w.Flags, func(f string) bool { return strings.HasPrefix(f, "--exit-policy") }) {
		create = append(create, "--exit-policy=stop")
	}
	for _, f := range w.Flags {
		create = append(create, escaped(f))
	}
	for _, a := range w.Args {
		create = append(create, escaped(a))
	}
	if !slices.ContainsFunc(w.Flags, func(f string) bool { return strings.HasPrefix(f, "--replace") }) {
		create = append(create, "--replace")
	}
	line("ExecStartPre=/bin/rm \\\n\t-f %s %s", pid, id)
	line("ExecStartPre=%s", folded(create))
	line("ExecStart=%s", folded(append(w.command(o, "pod", "start"), "--pod-id-file", id)))
	line("ExecStop=%s", folded(append(w.command(o, "pod", "stop"), "--ignore", "--pod-id-file", id, "-t", fmt.Sprint(w.StopTimeout))))
	line("ExecStopPost=%s", folded(append(w.command(o, "pod", "rm"), "--ignore", "-f", "--pod-id-file", id)))
	line("PIDFile=%s\nType=forking", pid)
}

// escaped is a word that systemd takes as it is: neither specifiers nor
// variables are expanded.
func escaped(word string) string {
	return quoted(strings.NewReplacer("%", "%%", "$", "$$").Replace(word))
}

// folded is a command line with each flag on a line of its own.
func folded(words []string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i == 0:
		case strings.HasPrefix(w, "-"):
			b.WriteString(" \\\n\t")
		default:
			b.WriteByte(' ')
		}
		b.WriteString(w)
	}
	return b.String()
}
