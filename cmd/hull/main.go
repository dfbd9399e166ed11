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
