// Hull-net is the network's helper: it carries connections to published ports
// on loopback addresses into containers, and is the way out of a user's
// containers. The engine starts it; it is of no use to a person.
package main

import (
	"fmt"
	"os"

	"hull/network"
	"hull/usernet"
)

func main() {
	known, err := usernet.Main(os.Args[1:])
	if !known {
		known, err = proxy(os.Args[1:])
	}
	switch {
	case !known:
		fmt.Fprintln(os.Stderr, "usage: hull-net proxy RECORD [NETNS], or hull-net outside NETNS; started by hull with open descriptors")
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "hull-net:", err)
		os.Exit(1)
	}
}

func proxy(args []string) (known bool, err error) {
	if len(args) < 2 || len(args) > 4 || args[0] != network.ProxyCommand {
		return false, nil
	}
	if len(args) > 2 {
		// A user's bridges are in a namespace of their own; the sockets that
		// came along stay what they are.
		if err := network.JoinAll(args[2]); err != nil {
			return true, err
		}
	}
	return true, network.Proxy(args[1], network.ProxyOptions{Transparent: len(args) == 4 && args[3] == network.ProxyTransparent})
}
