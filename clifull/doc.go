// Package clifull is the command line of the hull-full binary: the commands
// that reach registries. Package cli knows them as rows marked Elsewhere and
// executes this binary with the arguments as they were given, so the global
// flags, names and exit codes are the same.
//
//	tree.go      the table of commands
//	session.go   streams, global flags, the store, the registry client
//	pull.go …    one command each: flags → an options struct of package transfer
//	progress.go  what is shown meanwhile: bars on a terminal, else podman's lines
//	docker.go    the same as docker shows it, when called by that name
package clifull
