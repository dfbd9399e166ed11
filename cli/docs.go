package cli

import (
	"os"

	"hull/command"
)

// Tree is the table of commands under the program's name, for what is written
// about them: manual pages and completions.
func Tree(program string) *command.Tree {
	s := &session{program: program, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	return s.tree()
}
