// Package plan writes the start of a process as a flat list of system calls,
// prints it, checks it and runs it.
//
// # Theory of operation
//
// A container is made by a process that changes itself, call by call, and in
// the end executes the container's program. A Go program cannot be that
// process: it has threads, a heap, and secrets in it. So everything that needs
// a decision, memory or text is done before, by a Builder:
//
//	b := plan.NewBuilder()
//	b.Phase("root")
//	fs := b.Fsopen("proc")
//	b.FsconfigCreate(fs)
//	m := b.Fsmount(fs, unix.MOUNT_ATTR_NOSUID)
//	b.MoveMount(m, target)
//	…
//	b.Execve("/bin/sh", argv, env)
//	p, err := b.Plan()
//
// A Plan is data. String prints it like strace would, Check states what a
// reviewer would look for, Image turns it into an executable of a few kilobytes:
// an ELF header, the interpreter (300 bytes of machine code, copied out of this
// program's own text), the steps, and what they point to. Memfd seals that into
// a memory file, and an ordinary fork and exec starts it. The process that runs
// inside the container's namespaces therefore holds nothing of the engine: no
// heap, no descriptors, no binary behind /proc/PID/exe (CVE-2019-5736).
//
// # A step
//
// is a system call number and six words. A word may be replaced by an earlier
// result (a descriptor, mostly). A result may be kept. Up to four errnos count as
// success, and success or an accepted errno may skip some following steps.
// There are no loops, no strings made in the child, no pointers written. Two
// pseudo calls exist: check compares a word of the scratch buffer and fails the
// step, reap is the loop of a container's init process. EINTR is retried.
//
// # Invariants
//
// Check holds a plan to these; the fuzz tests of the compilers use it as oracle.
//
//   - Flow: jumps go forward to a step, references are to results of steps
//     before, an accepted errno never leaves a result missing, the last step does
//     not return. There is one fork at most.
//   - Descriptors: what a step opens is close-on-exec; what the process is
//     started with is closed, moved or close-on-exec before execve. What dup3
//     puts on a number is meant for the program.
//   - Hidden: PR_SET_DUMPABLE 0 comes before any namespace is joined and
//     anything is mounted. Only a plan that writes its own id maps does that
//     first: a process that hides cannot open its own uid_map.
//   - Paths: when the container's root is attached, no path leads through it and
//     nothing is mounted by path; below it, names of several elements are
//     opened by openat2 with a RESOLVE_ flag that keeps them inside. After
//     pivot_root no path is resolved but by execve, chdir and openat2.
//   - Privileges: bounding set before capset, groups before the user.
//   - Filter: after seccomp come execve and a few calls that any program makes.
//   - Waits: three at most (maps, hooks, start), each announced.
//
// # The process
//
// An image is started with descriptors 0, 1, 2 for the program, 3 the write
// end of the report pipe, 4 the console socket, 5… the plan's files. A clone
// step marked as the fork leaves two processes: the parent writes the child's
// pid (8 bytes) to the report pipe and exits; the child goes on. With
// CLONE_PARENT the child's parent is whoever started the image. A step that
// fails writes {step with bit 32 set, errno}, two words, and ends the process
// with status 255. A plan that waits says {all ones, 0}. The parent's message
// may come after the child's, so that each tells by its first word what it is.
// The pipe is close-on-exec, so its end of file means that the program runs.
//
// Start does the same by a raw clone of the calling program, without an
// image: slower when the heap is large, and the engine's memory is visible to
// the child until it executes. It is the fallback and the oracle of the tests.
package plan
