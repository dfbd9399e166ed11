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

// A codedError is one with an exit code of its own.
type codedError struct {
	error
	code int
}

func (e *codedError) Unwrap() error { return e.error }

// ExitCode is the exit code for an error of a start or an exec.
func ExitCode(err error) int {
	var step *plan.StepError
	if err == nil {
		return 0
	}
	var coded *codedError
	if errors.As(err, &coded) {
		return coded.code
	}
	if !errors.As(err, &step) {
		return foreignCode(err)
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
	if errors.As(err, &step) && step.Call == "chdir" {
		// As podman has it: only a program can be missing (127) in a run.
		err = &codedError{err, codeCannot}
	}
	return explainStep("start container", err)
}

// explainStep says what was done when a step failed, and the step's hint.
func explainStep(what string, err error) error {
	var step *plan.StepError
	if errors.As(err, &step) && strings.HasPrefix(step.Call, "execve") {
		step.Text = withoutEnv(step.Text)
	}
	if step != nil && step.Hint == "" && strings.HasPrefix(step.Call, "dup") && step.Errno == unix.EBADF {
		return hint(fmt.Errorf("%s: %w", what, err), "the limit of open files is too low for a start: raise it (ulimit -n)")
	}
	if step != nil && step.Hint != "" {
		return &HintError{fmt.Errorf("%s: %w", what, err), step.Hint}
	}
	return fmt.Errorf("%s: %w", what, err)
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
