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
