package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// BootID is the kernel's random name of the time since the last boot. It is
// empty where /proc does not tell it.
func BootID() string { return bootID() }

var bootID = sync.OnceValue(func() string {
	b, err := ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})

// A ProcessID names one process of this boot, also after its number is used
// again. The zero ProcessID names none.
type ProcessID struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat
}

// Self is the calling process.
func Self() ProcessID {
	id, _ := IdentifyProcess(os.Getpid())
	return id
}

// IdentifyProcess returns the identity of the process that has the number now.
func IdentifyProcess(pid int) (ProcessID, error) {
	start, _, err := processStat(pid)
	if err != nil {
		return ProcessID{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return ProcessID{pid, start}, nil
}

// Alive reports whether the process exists and is not a zombie.
func (p ProcessID) Alive() bool {
	if p.Pid <= 0 {
		return false
	}
	start, dead, err := processStat(p.Pid)
	return err == nil && start == p.Start && !dead
}

// processStat reads when a process began and whether it is a zombie.
func processStat(pid int) (start uint64, dead bool, err error) {
	name := "/proc/" + strconv.Itoa(pid) + "/stat"
	b, err := ReadFile(name)
	if errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.EIO) {
		// Not of the process: without memory or descriptors for a moment it is not dead.
		b, err = ReadFile(name)
	}
	if err != nil {
		return 0, false, err
	}
	// The command name, in parentheses, may hold anything.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, false, fmt.Errorf("unexpected stat line %q", b)
	}
	fields := bytes.Fields(b[i+1:])
	if len(fields) < 20 {
		return 0, false, fmt.Errorf("unexpected stat line %q", b)
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return start, fields[0][0] == 'Z' || fields[0][0] == 'X', err
}
