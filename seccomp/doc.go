// Package seccomp turns a seccomp profile into a BPF program, without libseccomp.
//
// # Theory of operation
//
//	profile (JSON)  --Parse/Load-->  Profile  --Resolve(Target)-->  specs.LinuxSeccomp  --Compile-->  Program
//
// A Profile is the file users write: docker's and podman's format, whose rules may depend on capabilities, architecture
// and kernel, or plain runtime-spec JSON, which is a subset of it. Resolve decides these conditions and leaves
// what a config.json holds. Compile makes the filter; it is a pure function of its arguments, so the program may be kept
// as bytes (Program.AppendBinary) under the hash Key returns.
//
// # The program
//
// The filter first tells the ABI apart (audit architecture, and the x32 bit of the number on amd64), then searches the
// number in a binary tree of ranges: neighbours with the same verdict are one leaf. The default profile costs about a dozen
// instructions a call; a list, as libseccomp writes it by default, costs hundreds. Verdicts that do not depend on
// arguments are written so that the kernel (5.11 and newer) can cache them in its bitmap.
//
// # Which rule wins
//
// Runtime-spec leaves open what happens when two rules of one call match; libseccomp lets an allow defeat a deny
// (CVE-2026-123876). Here the most restrictive matching action wins, in the kernel's own order: kill process, kill thread,
// trap, errno, notify, trace, log, allow. Among errnos the first listed wins. A rule equal to the default action
// is not dropped, since it may have to win over an allow. As in runc, two conditions on the same argument within a rule are alternatives.
//
// Calls newer than every call a profile names answer ENOSYS when the default action would deny them otherwise, so that
// C libraries fall back (as runc does since 1.0.0-rc93). Foreign architectures are killed; x32, when the profile does
// not list it, answers ENOSYS. socketcall(2) and ipc(2) are calls of their own: their arguments are in memory no
// filter can read, so a rule on socket(2) says nothing about a 32-bit program's socketcall(2).
package seccomp

//go:generate go run ./gen
