// Package userns gives a user who is not root a user namespace in which he is.
//
// # Theory of operation
//
// Everything that an engine does, mounts and bridges among it, a process may
// do as root of a user namespace of its own. A Go program cannot enter one,
// since it has threads. So the first command of a user leaves a holder: a
// plan of a few system calls that clones into a new user namespace, waits for
// its id maps, unshares a mount and a network namespace, and sleeps:
//
//	hull (uid 1000) ── newuidmap ──► holder: user, mnt and net namespace, 28 kB
//	     └─ executes a plan: setns(holder) ── executes hull again (uid 0 inside)
//
// Every command then replaces itself by a plan that joins the holder by its
// pidfd and executes the same program with the same arguments, so that the
// process number, its parent and its terminal stay. When the holder is gone
// (a logout ends it), the next command makes a new one.
//
// The maps are the user itself as 0, and from 1 on the subordinate ids of
// /etc/subuid and /etc/subgid, which newuidmap and newgidmap (set-uid root)
// write after they have checked them.
//
// # Terms
//
//	Needed    this process must Enter before it can be an engine
//	Rootless  this process is, or would be, root of such a namespace only
//	HostUID   who the user is outside
package userns
