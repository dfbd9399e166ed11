package ociruntime

import (
	"fmt"
	"io"
	"strings"

	"hull/plan"
)

// A Step is one of those in which a container's start is told to people. The calls of
// a plan come in an order of their own, that of their numbers: a right is given up
// when nothing needs it any more, whatever step it belongs to.
type Step uint8

// Steps, in their order. Image is what happens before any plan.
const (
	StepImage Step = iota
	StepRoot
	StepMounts
	StepMetadata
	StepIsolation
	StepLimits
	StepProgram
	StepSecurity
)

// phaseReasons say to which step of a start a phase belongs, what it is for and why it
// is where it is.
var phaseReasons = []struct {
	phase  string
	step   Step
	reason string
}{
	{"begin", StepIsolation, "The report pipe must end when the program runs. What is taken from the host by name is taken now."},
	{"cgroups", StepLimits, "The limits hold from here on, also for what is made below. It is done before a cgroup namespace shows less."},
	{"oom score", StepLimits, "Inherited by the container's process, which could not open the file any more."},
	{"mounts of the host", StepMounts, "Copies that only the host's mount namespace can make: idmapped and shared ones."},
	{"hide", StepIsolation, "Nobody in the container can trace this process or read its memory and descriptors."},
	{"join namespaces", StepIsolation, "All are opened before the first is joined. The user namespace comes when the host's rights are needed no more, the mount namespace last."},
	{"time namespace", StepIsolation, "Its clocks can be set only as long as no process is in it."},
	{"namespaces", StepIsolation, "One clone makes the container's first process in all its new namespaces. The other half reports its number and ends."},
	{"id maps", StepIsolation, "Written by the process itself, which may map only its own ids and must give up changing groups."},
	{"root of the user namespace", StepIsolation, "The process has been nobody there until now."},
	{"root file system", StepRoot, "What the host mounts still arrives here, what is mounted here never reaches the host. Then the root is attached, since only an attached mount takes others on it."},
	{"mounts", StepMounts, "Each destination is opened inside the root, which no link can leave, and mounted on by descriptor: it is never named twice."},
	{"devices", StepMounts, "Into the /dev that was just mounted. In a user namespace the host's nodes are bound, since making them is denied."},
	{"read-only paths", StepIsolation, "A copy of the mount, made read-only, covers the path. Before the masks, which it would uncover."},
	{"masked paths", StepIsolation, "An empty file or directory of a file system of our own: not the container's /dev/null, which it could have replaced."},
	{"names", StepMetadata, "Host name and sysctls of the new namespaces, by the container's own /proc where it can be written to."},
	{"wait for hooks", StepProgram, "The parent runs the hooks that see the mounts but not yet the new root."},
	{"label", StepSecurity, "The files of the security modules are opened in the host's /proc and written later."},
	{"pivot", StepMounts, "The old root goes away with everything of the host in it."},
	{"terminal", StepMounts, "From the container's own devpts. Its master is sent away, its slave becomes input, output and error."},
	{"read-only /dev", StepMounts, "Devices and terminal are in it by now."},
	{"limits", StepLimits, "While the capabilities to raise them are still there."},
	{"created: wait for start", StepProgram, "The container is created. It goes on when it is started."},
	{"descriptors", StepIsolation, "Nothing of the host stays open for the program."},
	{"credentials", StepSecurity, "Labels, then the bounding set, groups, user and capabilities: each while the right to change it is left."},
	{"process", StepIsolation, "Only a child is in a pid namespace that was joined."},
	{"seccomp", StepSecurity, "Last, so that the filter need not allow what came before."},
	{"capabilities", StepSecurity, "What is left for the program."},
	{"program", StepProgram, "The container's own."},
}

// Explain writes the phases of a plan that belong to one step: the reason for each, and
// its calls.
func Explain(w io.Writer, p *plan.Plan, step Step) error {
	var b strings.Builder
	for i := 0; i < p.Len(); {
		phase := p.Phase(i)
		known, reason := stepOf(phase)
		if known == step {
			fmt.Fprintf(&b, "   %s: %s\n", phase, reason)
		}
		subject := ""
		for ; i < p.Len() && p.Phase(i) == phase; i++ {
			if known != step {
				continue
			}
			if s := p.Subject(i); s != subject && s != "" {
				fmt.Fprintf(&b, "        ; %s\n", s)
			}
			subject = p.Subject(i)
			fmt.Fprintf(&b, "%8d  %s\n", i, p.StepText(i))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// stepOf is a phase's step, and its reason.
func stepOf(phase string) (Step, string) {
	for _, r := range phaseReasons {
		if r.phase == phase {
			return r.step, r.reason
		}
	}
	return StepProgram, ""
}
