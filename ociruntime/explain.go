package ociruntime

import (
	"fmt"
	"io"
	"strings"

	"hull/oci"
	"hull/plan"
)

// phaseReasons say what a phase is for and why it is where it is.
var phaseReasons = []struct{ phase, reason string }{
	{"begin", "The report pipe must end when the program runs. What is taken from the host by name is taken now."},
	{"cgroups", "The limits hold from here on, also for what is made below. It is done before a cgroup namespace shows less."},
	{"oom score", "Inherited by the container's process, which could not open the file any more."},
	{"mounts of the host", "Copies that only the host's mount namespace can make: idmapped and shared ones."},
	{"hide", "Nobody in the container can trace this process or read its memory and descriptors."},
	{"join namespaces", "All are opened before the first is joined. The user namespace comes when the host's rights are needed no more, the mount namespace last."},
	{"time namespace", "Its clocks can be set only as long as no process is in it."},
	{"namespaces", "One clone makes the container's first process in all its new namespaces. The other half reports its number and ends."},
	{"id maps", "Written by the process itself, which may map only its own ids and must give up changing groups."},
	{"root of the user namespace", "The process has been nobody there until now."},
	{"root file system", "What the host mounts still arrives here, what is mounted here never reaches the host. Then the root is attached, since only an attached mount takes others on it."},
	{"mounts", "Each destination is opened inside the root, which no link can leave, and mounted on by descriptor: it is never named twice."},
	{"devices", "Into the /dev that was just mounted. In a user namespace the host's nodes are bound, since making them is denied."},
	{"read-only paths", "A copy of the mount, made read-only, covers the path. Before the masks, which it would uncover."},
	{"masked paths", "An empty file or directory of a file system of our own: not the container's /dev/null, which it could have replaced."},
	{"names", "Host name and sysctls of the new namespaces, by the host's /proc, which is gone soon."},
	{"wait for hooks", "The parent runs the hooks that see the mounts but not yet the new root."},
	{"label", "The files of the security modules are opened in the host's /proc and written later."},
	{"pivot", "The old root goes away with everything of the host in it."},
	{"terminal", "From the container's own devpts. Its master is sent away, its slave becomes input, output and error."},
	{"read-only /dev", "Devices and terminal are in it by now."},
	{"limits", "While the capabilities to raise them are still there."},
	{"created: wait for start", "The container is created. It goes on when it is started."},
	{"descriptors", "Nothing of the host stays open for the program."},
	{"credentials", "Labels, then the bounding set, groups, user and capabilities: each while the right to change it is left."},
	{"process", "Only a child is in a pid namespace that was joined."},
	{"seccomp", "Last, so that the filter need not allow what came before."},
	{"capabilities", "What is left for the program."},
	{"program", "The container's own."},
}

// Explain writes the plan that was compiled from spec: its phases, the reason
// for each, and its calls.
func Explain(w io.Writer, spec *oci.Spec, p *plan.Plan) error {
	var b strings.Builder
	program := "no program: it holds the namespaces"
	if spec.Process != nil && len(spec.Process.Args) > 0 {
		program = strings.Join(spec.Process.Args, " ")
	}
	fmt.Fprintf(&b, "%d system calls start %s\n", p.Len(), program)
	if names := p.FileNames(); len(names) > 0 {
		fmt.Fprintf(&b, "with descriptors")
		for i, n := range names {
			fmt.Fprintf(&b, " %d (%s)", int(plan.FirstFile)+i, n)
		}
		b.WriteString("\n")
	}
	for i := 0; i < p.Len(); {
		phase := p.Phase(i)
		fmt.Fprintf(&b, "\n%s\n", phase)
		for _, r := range phaseReasons {
			if r.phase == phase {
				fmt.Fprintf(&b, "  %s\n", r.reason)
			}
		}
		subject := ""
		for ; i < p.Len() && p.Phase(i) == phase; i++ {
			if s := p.Subject(i); s != subject && s != "" {
				fmt.Fprintf(&b, "    %s\n", s)
			}
			subject = p.Subject(i)
			fmt.Fprintf(&b, "%6d  %s\n", i, p.StepText(i))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
