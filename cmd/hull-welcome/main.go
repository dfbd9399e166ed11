// Hull-welcome is the one program of the image hull/welcome: it tells what a
// container sees of itself, on standard output or as a web page.
package main

import (
	"os"

	"hull/welcome"
)

func main() {
	os.Exit(welcome.Main(os.Args[1:], os.Stdout, os.Stderr))
}
