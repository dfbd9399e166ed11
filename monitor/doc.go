// Package monitor is the small process beside each running container, and the
// way the engine starts it and talks to it.
//
// # Theory of operation
//
// The engine compiles a container's start to a plan, a sealed memfd that is an
// executable of 28 kB. It hands the plan to hull-monitor, which becomes the
// container's parent:
//
//	hull run ── Start ──► hull-monitor ── exec plan ──► (clones) container
//	   ▲                      │  ▲                          │
//	   └──── attach frames ───┘  └── stdout, stderr, pty ───┘
//
// The monitor copies the container's output to the log and to attached
// clients, passes their input on, holds the terminal, reaps the container,
// writes its exit status to a file, and then becomes the engine again: it
// executes the clean-up command it was given. So one thing alone decides what
// happens after an exit (restart, removal, addresses given back): the engine.
// A foreground hull that is still there does that work itself and saves the
// start of a process; see FlagCleaner.
//
// The monitor survives the command that started it, and runs in a session of
// its own, so that a terminal's interrupt reaches the container only by the
// engine's will. It holds no state that a file does not hold as well: when it
// is killed, the next command finds the container without a parent and says so.
//
// # Small by rule
//
// One of these runs for every container. It is one goroutine around poll(2) on
// raw descriptors, started with GOMAXPROCS=1, and links neither fmt, net nor
// encoding/json; the package may import only what its binary can afford.
//
// # Names
//
// A container of a network with names has its name server here: two sockets
// that are inside its network namespace, answered from the files that package
// network writes, while what is not known is asked outside (dns.go). It shares
// the loop with everything else: no query waits for a file system that is not
// the run directory's, and none for another server.
//
// # Output and its readers
//
// The log is written first. A client that asked for FlagLossless (the terminal
// or pipe of a foreground run) slows the container down when it does not read,
// as any pipe would. One that came later (FlagYields) does so for as long as it
// takes anything, and a second longer. Any other client loses output when it is
// more than maxLag behind; a container is never held up by somebody who merely
// looks on.
package monitor
