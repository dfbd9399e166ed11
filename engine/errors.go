package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"hull/plan"
)

// Exit codes of run, start and exec besides the program's own, as every engine
// has them.
const (
	codeEngine  = 125 // the engine could not do it
	codeCannot  = 126 // the program is there and cannot be executed
	codeMissing = 127 // the program is not there
)

// ExitCode is the exit code for an error of a start or an exec.
func ExitCode(err error) int {
	var step *plan.StepError
	if err == nil {
		return 0
	}
	if !errors.As(err, &step) {
		return codeEngine
	}
	switch step.Call {
	case "execve", "execveat", "chdir", "fchdir":
		if errors.Is(step.Errno, fs.ErrNotExist) || step.Errno == unix.ENOENT || step.Errno == unix.ENOTDIR {
			return codeMissing
		}
		return codeCannot
	}
	return codeEngine
}

// stepError gives a failed step the words of the program that was to run.
func stepError(err error) error {
	var step *plan.StepError
	if errors.As(err, &step) && strings.HasPrefix(step.Call, "execve") {
		step.Text = withoutEnv(step.Text)
	}
	if step != nil && step.Hint != "" {
		return &HintError{fmt.Errorf("start container: %w", err), step.Hint}
	}
	return fmt.Errorf("start container: %w", err)
}

// withoutEnv leaves the environment out of the text of an execve: secrets are
// in it, and errors are kept in logs. An argument that looks like the end of
// the list ends it early.
func withoutEnv(text string) string {
	call, _, ok := strings.Cut(text, "], [")
	if !ok {
		return text
	}
	return call + "], …)"
}
