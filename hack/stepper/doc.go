// Package stepper runs a command and everything that it starts under ptrace,
// counts the system calls that change something outside their process (files,
// mounts, namespaces, netlink, signals), and at a chosen one kills the whole
// tree, kills the process that reached it, or makes the call fail. A filter of
// seccomp stops only those calls, so that a command runs nearly as fast as alone.
//
// It needs root and amd64.
package stepper
