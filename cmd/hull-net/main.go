// Hull-net carries connections to published ports on loopback addresses into
// containers. The engine starts it; it is of no use to a person.
package main

import (
	"fmt"
	"os"

	"hull/network"
)

func main() {
	if len(os.Args) != 3 || os.Args[1] != network.ProxyCommand {
		fmt.Fprintln(os.Stderr, "usage: hull-net proxy RECORD, with the sockets from descriptor 3 on")
		os.Exit(2)
	}
	if err := network.Proxy(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "hull-net:", err)
		os.Exit(1)
	}
}
