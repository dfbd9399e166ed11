package engine

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hull/state"
)

// killTree kills a process and what descends from it: a health check that has
// run out of its time leaves nothing behind (F63).
func killTree(id state.ProcessID) {
	below := descendants(id.Pid, nil)
	_ = sendSignal(id, unix.SIGKILL) // it may have ended meanwhile
	for _, d := range below {
		_ = sendSignal(d, unix.SIGKILL)
	}
}

// descendants adds the processes below one. Each is named so that another
// process which gets its number is not taken for it.
func descendants(pid int, found []state.ProcessID) []state.ProcessID {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || len(found) > 4096 {
		return found
	}
	for _, t := range tasks {
		b, err := state.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		if err != nil {
			continue
		}
		for _, w := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(w)
			if err != nil {
				continue
			}
			if id, err := state.IdentifyProcess(child); err == nil {
				found = descendants(child, append(found, id))
			}
		}
	}
	return found
}
