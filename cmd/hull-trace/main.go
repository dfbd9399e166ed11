// Hull-trace prints the system calls of a program, for hull debug.
package main

import (
	"os"

	"hull/tracer"
)

func main() {
	os.Exit(tracer.Main(os.Args, os.Stdout, os.Stderr))
}
