package ociruntime

import (
	"os"

	"hull/oci"
	"hull/seccomp"
)

// CompileOptions are what Compile is told besides the configuration. The zero
// value compiles a bundle as the specification says, for a host of which
// nothing is known.
type CompileOptions struct {
	// Facts are what LookUp found on the host.
	Facts Facts
	// Rootfs are mounts that make the root file system, the first of them its
	// root; they are mounted in the container's own mount namespace. nil takes
	// root.path of the configuration.
	Rootfs []oci.Mount
	// RootTree is the root file system, mounted already and attached nowhere;
	// Rootfs is empty then. A user namespace of its own needs it: it may not
	// mount what only the host's root can reach.
	RootTree *os.File
	// RootfsTarget is an existing directory of the host that the root is
	// attached to, inside the container's mount namespace only. Empty takes root.path.
	RootfsTarget string
	// CgroupProcs are cgroup.procs or tasks files that the process writes itself to.
	CgroupProcs []string
	// Rdt says that linux.intelRdt is set up, and its tasks files are among CgroupProcs.
	Rdt bool
	// Cgroup is the directory of a cgroup of version 2 to be born in.
	Cgroup *os.File
	// UserNS is a user namespace with its maps written, for a configuration
	// that asks for a new one.
	UserNS *os.File
	// MountUserNS are user namespaces with the maps of idmapped mounts, by the mounts'
	// places in the configuration, where the maps are not those of UserNS.
	MountUserNS map[int]*os.File
	// Namespaces are open namespaces to join instead of what the configuration
	// says for their type.
	Namespaces []NamespaceFile
	// Trees are mounts, attached nowhere, that are the sources of bind mounts
	// in the place of what the path is here: mounts of another mount namespace.
	Trees []Tree
	// Wait stops the plan before it executes the program until one byte comes
	// from Control, and WaitHooks also before pivot_root.
	Wait, WaitHooks bool
	// CopyUp says that the caller calls CopyUp while the plan waits for hooks.
	CopyUp bool
	// Control is what Wait reads, a named pipe opened for reading and writing.
	Control *os.File
	// Seccomp is the compiled linux.seccomp; nil compiles it here. SeccompListener
	// is the socket that gets a notifying filter's descriptor, together with the
	// first SeccompStateSize bytes of SeccompState, which the caller writes before
	// he lets the plan go on: the state has the process's number in it.
	Seccomp          *seccomp.Program
	SeccompListener  *os.File
	SeccompState     *os.File
	SeccompStateSize int
	// Preserve are files that the program gets from descriptor 3 on.
	Preserve []*os.File
	// Executable is the program's file, when it is not found by process.args[0].
	Executable string
	// KeepCwd makes no working directory that is not there.
	KeepCwd bool
	// NoNewKeyring leaves the session keyring as it is.
	NoNewKeyring bool
	// NoPivot uses chroot where the root cannot be pivoted (an initial ramfs).
	NoPivot bool
	// ChownStdio gives standard input, output and error to the process's user.
	// Only pipes are given, which were made for the container (RT-16).
	ChownStdio bool
	// Init makes the first process one that reaps and passes signals on; the
	// program is its child.
	Init bool
	// Infra executes no program: the process holds the namespaces until SIGTERM or SIGINT.
	Infra bool
}

// A Tree is an open mount that stands for a source.
type Tree struct {
	Source string
	File   *os.File
}

// A NamespaceFile is an open namespace.
type NamespaceFile struct {
	Type oci.LinuxNamespaceType
	File *os.File
}
