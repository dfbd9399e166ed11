package plan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Descriptors that an image is started with.
const (
	ReportFD  FD = 3 // write end of the report pipe
	ConsoleFD FD = 4 // where the terminal's master is sent
	FirstFile FD = 5 // the first of Plan.Files
)

// An FD stands for a file descriptor of the planned process: a number that is
// known (0, CWD, an inherited file) or the result of an earlier step. The zero
// value is standard input.
type FD int32

// CWD is AT_FDCWD.
const CWD FD = unix.AT_FDCWD

const resultBit FD = 1 << 30

func (f FD) isResult() bool { return f >= resultBit }
func (f FD) slot() uint8    { return uint8(f) }
func (f FD) id() int        { return int(f&^resultBit) >> 8 }

// Slots of the interpreter that are not results.
const (
	slotNone    = 0
	slotScratch = 254 // address of the scratch buffer
	slotReport  = 255 // the report pipe's number
	maxSlot     = 253
)

// ScratchSize is the size in bytes of the buffer that a plan may let the
// kernel write to.
const ScratchSize = 2048

// Pseudo system calls of the interpreter.
const (
	callCheck = 0xff00
	callReap  = 0xff01
)

// Flags of a step.
const (
	flagFork        = 1 << iota // a clone whose parent reports the pid and exits
	flagSkipErrno               // an accepted errno skips
	flagSkipSuccess             // success skips
	flagSkipNonzero             // a result that is not 0 skips: the parent of a branch
)

// A Step is one system call of a plan.
type Step struct {
	nr      uint32
	flags   uint8
	keep    uint8 // result slot; 0 drops the result
	skip    uint16
	args    [6]uint64
	ref     [6]uint8
	ptr     uint8 // bit i: args[i] is an offset into the data
	fdarg   uint8 // bit i: args[i] is an FD
	ok      [4]uint16
	result  FD // what keep made, for text
	phase   uint8
	subject string
}

// A Plan is a finished list of steps. It is immutable.
type Plan struct {
	steps  []Step
	data   []byte
	relocs []uint32 // offsets of words in data that are offsets into data
	phases []string
	files  []*os.File
	names  []string // of files
}

// Len returns the number of steps.
func (p *Plan) Len() int { return len(p.steps) }

// Files returns the open files that the process inherits from descriptor 5 on.
// An entry is nil when the caller of the compiler has yet to supply it.
func (p *Plan) Files() []*os.File { return p.files }

// FileNames says what each of Files is for.
func (p *Plan) FileNames() []string { return p.names }

// Phase returns the phase that step i belongs to.
func (p *Plan) Phase(i int) string { return p.phases[p.steps[i].phase] }

// Subject returns what step i is about, such as "mount proc on /proc"; it may be empty.
func (p *Plan) Subject(i int) string { return p.steps[i].subject }

// Call returns the name of the system call of step i.
func (p *Plan) Call(i int) string { return callName(p.steps[i].nr) }

// First words of a report's messages of two words; a smaller one is the pid,
// which is a message of its own.
const (
	failureBit = 1 << 32    // and the number of the step that failed; its errno follows
	created    = ^uint64(0) // the plan waits
)

// A StepError is a plan that failed at one step.
type StepError struct {
	Step    int
	Phase   string
	Call    string // name of the system call
	Subject string // what the compiler was doing
	Text    string // the step, as String prints it
	Errno   unix.Errno
	Hint    string // how the user can cure it; may be empty
}

func (e *StepError) Error() string {
	if e.Subject != "" {
		return fmt.Sprintf("%s: step %d, %s: %v", e.Subject, e.Step, e.Text, e.Errno)
	}
	return fmt.Sprintf("step %d, %s: %v", e.Step, e.Text, e.Errno)
}

func (e *StepError) Unwrap() error { return e.Errno }

// ErrReport is a report that no plan writes.
var ErrReport = errors.New("malformed report")

// ReportPid is the report of a process that was started, for a program that
// stands in for a plan.
func ReportPid(pid int) []byte { return binary.NativeEndian.AppendUint64(nil, uint64(pid)) }

// DecodeReport reads what a plan wrote on its report pipe: pid is 0 when
// the plan failed before its fork. err is a *StepError, ErrReport or nil.
//
// The fork's two halves write without waiting for each other, so that a step
// that fails at once may be reported before the pid.
func DecodeReport(p *Plan, report []byte) (pid int, err error) {
	pid, _, err = decode(p, report)
	return pid, err
}

// decode is DecodeReport; waits says that the plan reported to wait.
func decode(p *Plan, report []byte) (pid int, waits bool, err error) {
	for len(report) >= 8 {
		first := binary.NativeEndian.Uint64(report)
		report = report[8:]
		if first < failureBit && pid == 0 {
			pid = int(first)
			continue
		}
		step := first &^ failureBit
		switch {
		case first < failureBit || len(report) < 8:
			return pid, waits, ErrReport
		case first == created:
			waits = true
		case step >= uint64(p.Len()):
			return pid, waits, ErrReport
		case err == nil:
			err = p.stepError(int(step), unix.Errno(binary.NativeEndian.Uint64(report)))
		}
		report = report[8:]
	}
	if len(report) != 0 {
		return pid, waits, ErrReport
	}
	return pid, waits, err
}

func (p *Plan) stepError(i int, errno unix.Errno) *StepError {
	e := &StepError{
		Step: i, Phase: p.Phase(i), Call: p.Call(i), Subject: p.steps[i].subject,
		Text: p.StepText(i), Errno: errno,
	}
	e.Hint = hint(e)
	return e
}
