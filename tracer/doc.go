// Package tracer prints the system calls that programs make, a line each, in
// the manner of strace: what a shell beside a container that has no tools is
// missing most. It follows children and threads, knows the arguments of the
// common calls and prints the others as numbers.
//
// A traced thread stops twice a call, before and after it. The line is printed
// after it, with the result; one that another thread's call comes between is
// printed whole all the same, so lines are in the order in which calls ended.
package tracer
