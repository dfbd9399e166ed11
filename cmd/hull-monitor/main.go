// A short-lived process has no use for the share of processors that its cgroup
// leaves it: the Go runtime would read four files at each start for that.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Hull-monitor is the process beside each running container; package monitor
// tells its story. The engine starts it; it is of no use to a person.
package main

import (
	"os"

	"hull/monitor"
)

func main() {
	os.Exit(monitor.Main())
}
