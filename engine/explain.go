package engine

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"hull/oci"
	"hull/ociruntime"
	"hull/plan"
	"hull/seccomp"
)

// Explain prints what Run would do, step by step and call by call, and does
// nothing of it.
func (e *Engine) Explain(ctx context.Context, o CreateOptions, w io.Writer) error {
	if err := o.validate(); err != nil {
		return err
	}
	r := &record{Version: recordVersion, ID: strings.Repeat("0", 64), Name: firstOf(o.Name, "NAME"), Created: time.Now(), Options: o, transient: true}
	r.Options.Env = resolveEnv(o)
	r.dir = e.containerRun(r.ID)
	x := &explanation{w: w}
	x.step("Pull the image")
	quiet := &Engine{o: e.o}
	quiet.o.Pull, quiet.o.Warn = nil, func(text string) { x.line("warning: %s", text) }
	if err := quiet.findImage(ctx, r); err != nil {
		x.line("%s is not in the store: it is pulled by the policy %q, blobs verified while they stream in", o.Image, firstOf(o.Pull, "missing"))
		x.line("what follows depends on the image: %v", err)
		return x.err
	}
	if o.Rootfs != "" {
		x.line("none: %s is used", r.Options.Rootfs)
	} else {
		x.line("%s is in the store: %s", r.ImageName, r.ImageID)
	}
	if err := quiet.settleNames(ctx, r); err != nil {
		return err
	}
	return quiet.explainRest(ctx, r, x)
}

// explainRest prints the steps that need the image.
func (e *Engine) explainRest(ctx context.Context, r *record, x *explanation) error {
	r.Mounts = r.Options.Mounts
	f, err := e.dryFacts(r)
	if err != nil {
		return err
	}
	program, err := e.seccompProgram(r, &f)
	if err != nil {
		return err
	}
	// The user is looked up in the image at create; its number is not needed
	// for the steps.
	spec, err := newSpec(r, f)
	if err != nil {
		return err
	}
	if err := e.compileDry(r, spec, program, x); err != nil {
		return err
	}
	e.explainRoot(r, x)
	x.step("Isolation")
	var names []string
	for _, n := range spec.Linux.Namespaces {
		names = append(names, string(n.Type))
	}
	x.line("namespaces: %s", strings.Join(names, " "))
	x.line("network: %s", firstOf(r.networkMode(e), "bridge"))
	if x.ahead.network {
		x.line("its namespace is made by a thread of hull that comes back from it: unshare(CLONE_NEWNET), open /proc/thread-self/ns/net, lo up, setns")
	}
	x.line("%d masked paths, %d read-only ones", len(spec.Linux.MaskedPaths), len(spec.Linux.ReadonlyPaths))
	x.calls(ociruntime.StepIsolation)
	x.step("Limits")
	x.line("cgroup %s: %s", firstOf(f.Cgroup, "(none)"), limitsText(spec))
	x.calls(ociruntime.StepLimits)
	x.step("The system call that starts it")
	x.line("the last of %d calls, whose numbers say in which order they are made", x.plan.Len())
	x.calls(ociruntime.StepProgram)
	x.step("Security")
	x.line("capabilities: %s", strings.Join(spec.Process.Capabilities.Bounding, " "))
	if program != nil {
		x.line("seccomp: a filter of %d instructions", len(program.Filter))
	} else {
		x.line("seccomp: none")
	}
	x.line("apparmor: %s; selinux: %s", firstOf(spec.Process.ApparmorProfile, "none"), firstOf(spec.Process.SelinuxLabel, "none"))
	x.calls(ociruntime.StepSecurity)
	return x.err
}

// explainRoot prints the steps that make the root file system.
func (e *Engine) explainRoot(r *record, x *explanation) {
	o := &r.Options
	x.step("Extract its layers, put a writable one above")
	switch {
	case o.Rootfs != "" && !o.RootfsOverlay:
		x.line("none: writes go to the directory itself")
	case o.Rootfs != "":
		x.line("an overlay above %s", r.Options.Rootfs)
	default:
		x.line("layers are unpacked once, under their chain ID %s; a new upper directory bears the container's ID", firstOf(string(r.Chain), "(empty)"))
	}
	if x.ahead.root {
		x.line("mounted by hull, attached nowhere, while it writes what the metadata are; where it cannot be, by the plan:")
		x.line(`    fsopen("overlay"), fsconfig source, lowerdir+ for each layer, upperdir, workdir, CMD_CREATE, fsmount`)
	}
	x.calls(ociruntime.StepRoot)
	x.step("Mount points")
	x.line("the root is attached to %s, in the container's mount namespace only", e.mountTarget())
	for _, m := range r.Mounts {
		x.line("%s %s on %s %s", m.Type, m.Source, m.Destination, strings.Join(m.Options, ","))
	}
	x.calls(ociruntime.StepMounts)
	x.step("Metadata")
	x.line("%s/record.json, state.json; hosts, hostname and resolv.conf of its own", r.dir)
	x.calls(ociruntime.StepMetadata)
}

// compileDry compiles the plan of a root that is not there yet.
func (e *Engine) compileDry(r *record, spec *oci.Spec, program *seccomp.Program, x *explanation) error {
	facts, err := ociruntime.LookUp(spec)
	if err != nil {
		return err
	}
	co := ociruntime.CompileOptions{Facts: facts, Seccomp: program, Init: r.ownInit(e)}
	null, err := os.Open(os.DevNull) // in the place of what the start makes
	if err != nil {
		return err
	}
	defer null.Close()
	plain := r.owners().none() && e.o.Runtime == ""
	if r.Options.Rootfs == "" {
		co.RootfsTarget = e.mountTarget()
		if x.ahead.root = plain; plain {
			co.RootTree = null
		} else {
			co.Rootfs = []oci.Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=LAYERS", "upperdir=UPPER", "workdir=WORK"}}}
		}
	}
	if x.ahead.network = e.ownNetwork(&r.Options); x.ahead.network {
		co.Namespaces = []ociruntime.NamespaceFile{{Type: oci.NetworkNamespace, File: null}}
		for i := range spec.Linux.Namespaces {
			if n := &spec.Linux.Namespaces[i]; n.Type == oci.NetworkNamespace {
				n.Path = null.Name()
			}
		}
	}
	p, warnings, err := ociruntime.Compile(spec, co)
	for _, text := range warnings {
		x.line("warning: %s", text)
	}
	x.plan = p
	return err
}

func limitsText(s *oci.Spec) string {
	var out []string
	r := s.Linux.Resources
	if r.Pids != nil && r.Pids.Limit != nil {
		out = append(out, fmt.Sprintf("%d processes", *r.Pids.Limit))
	}
	if r.Memory != nil && r.Memory.Limit != nil {
		out = append(out, fmt.Sprintf("%d bytes of memory", *r.Memory.Limit))
	}
	if r.CPU != nil && r.CPU.Quota != nil && r.CPU.Period != nil {
		out = append(out, fmt.Sprintf("%d of %d µs", *r.CPU.Quota, *r.CPU.Period))
	}
	return strings.Join(append(out, fmt.Sprintf("%d device rules", len(r.Devices))), ", ")
}

// An explanation keeps the first error of its writer.
type explanation struct {
	w    io.Writer
	n    int
	plan *plan.Plan
	err  error
	// ahead is what is made beside the plan.
	ahead struct{ root, network bool }
}

// calls prints the calls of a step, phase by phase with its reason.
func (x *explanation) calls(step ociruntime.Step) {
	if x.err == nil {
		x.err = ociruntime.Explain(x.w, x.plan, step)
	}
}

func (x *explanation) step(title string) {
	x.n++
	x.raw(fmt.Sprintf("%d. %s\n", x.n, title))
}

func (x *explanation) line(format string, args ...any) {
	x.raw("   " + fmt.Sprintf(format, args...) + "\n")
}

func (x *explanation) raw(text string) {
	if x.err == nil {
		_, x.err = io.WriteString(x.w, text)
	}
}
