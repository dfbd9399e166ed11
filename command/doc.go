// Package command is the command tree of a front door: a table of paths, and
// what turns an argument vector into one call.
//
// # The idea
//
// A program of 170 commands and 1,200 flags must not build them all to run
// one. So the tree is a flat table of rows, a row is a path, a line of help
// and a function; only the row that was asked for is built:
//
//	argv ─► global flags ─► words ─► row ─► Build() ─► flags ─► Run(ctx, args)
//	                                  │
//	                                  ├─ Elsewhere: another binary takes argv as it is
//	                                  └─ a group: its help, exit 125
//
// The same table is what help pages, shell completion (through cobra, which
// owns the scripts of the four shells and the __complete protocol) and manual
// pages are made from; they build the rows they show.
//
// # Words
//
//	row      one Node: "container ls", its one-line description, its builder
//	command  what Build returns: usage, flags, argument rule, Run
//	globals  flags of the program itself; accepted before and after the words
//
// # Errors and exit codes
//
// Run returns an error. Its text is printed as "Error: …", and when any error
// in its chain has a Hint() string, a line "hint: …" follows. The exit code is
// 125 unless the chain holds an *Exit. Exit with a nil Err is silent: that is
// how the exit status of a container, or "exists", is passed on. Bad flags and
// unknown commands read as podman's do, since scripts look at them.
//
// What it is not: it knows nothing about containers, opens nothing and prints
// nothing but help and errors.
package command
