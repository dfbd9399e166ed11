// A short-lived process has no use for the share of processors that its cgroup
// leaves it: the Go runtime would read four files at each start for that.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Hull runs containers, pods and images without a daemon.
package main

import (
	"context"
	"os"

	"hull/cli"
)

func main() {
	os.Exit(cli.Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}
