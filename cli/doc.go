// Package cli is the command line of the hull binary: the front door that
// people and scripts use, with podman's commands, flags, output and exit codes.
//
// # The idea
//
// One file a command. A command declares its flags, fills an options struct of
// package engine, calls one verb and shows what comes back:
//
//	tree.go        the table of all commands
//	ps.go, run.go  one command each
//	create_*.go    the 150 flags of run and create, by subject, → engine.CreateOptions
//	selection.go   which containers: names, --all, --latest, --filter, --cidfile
//	session.go     streams, global flags, the engine (opened when first needed)
//	handoff.go     commands of the hull-full binary, reached by execve
//
// A session is one invocation. Its methods build the commands, so that the
// options of a command are variables of its builder and nothing is global.
//
// # What is not here
//
// Nothing that decides about containers: a rule that the Docker API must hold
// too belongs to engine. Nothing that needs the network or the builder: those
// commands are rows marked Elsewhere and another binary's, since what a
// process links it pays for at each start.
package cli
