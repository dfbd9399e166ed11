// Hull-net carries connections to published ports on loopback addresses into
// containers. The engine starts it; it is of no use to a person.
package main

import (
	"fmt"
	"os"

	"hull/network"
)

func main() {
	if len(os.Args) < 3 || len(os.Args) > 4 || os.Args[1] != network.ProxyCommand {
		fmt.Fprintln(os.Stderr, "usage: hull-net proxy RECORD [NETNS], with the sockets from descriptor 3 on")
		os.Exit(2)
	}
	var err error
	if len(os.Args) == 4 {
		// A user's bridges are in a namespace of their own; the sockets that
		// came along stay what they are.
		err = network.JoinAll(os.Args[3])
	}
	if err == nil {
		err = network.Proxy(os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hull-net:", err)
		os.Exit(1)
	}
}
