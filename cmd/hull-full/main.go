// Hull-full holds the commands of hull that reach registries. People call
// hull, which executes it.
package main

import (
	"context"
	"os"

	"hull/clifull"
)

func main() {
	os.Exit(clifull.Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}
