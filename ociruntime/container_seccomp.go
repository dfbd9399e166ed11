package ociruntime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/seccomp"
)

// An Agent answers the calls a filter notifies of. The message to it goes with the
// filter's descriptor, when the filter is installed: the process sends it itself, out of a
// memory file that is written when its number is known. The methods of nil do nothing.
type Agent struct {
	socket, state *os.File
	size          int
	message       specs.ContainerProcessState
}

// maxPid is the highest number a process can have.
const maxPid = 1 << 22

// receiverAnnotation names the agent's socket where the filter does not, as crun has it.
const receiverAnnotation = "run.oci.seccomp.receiver"

// compileSeccomp compiles the configuration's filter into o, and connects to the agent
// that a filter needs which notifies. nil: none is needed.
func compileSeccomp(s *oci.LinuxSeccomp, o *CompileOptions, state oci.State) (*Agent, error) {
	if s == nil {
		return nil, nil
	}
	prog, err := seccomp.Compile(s, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	o.Seccomp = &prog
	return ConnectAgent(s, o, state)
}

// ConnectAgent connects to the agent of o.Seccomp and puts into o what the plan needs to hand
// the filter over: who launches it calls Fill while the plan waits, and Close at last. s says
// where the agent is, or else the annotation run.oci.seccomp.receiver of state. nil is the
// agent of a filter that does not notify.
func ConnectAgent(s *oci.LinuxSeccomp, o *CompileOptions, state oci.State) (*Agent, error) {
	if o.Seccomp == nil || !o.Seccomp.Notify {
		return nil, nil
	}
	path := state.Annotations[receiverAnnotation]
	if s.ListenerPath != "" {
		path = s.ListenerPath
	}
	if path == "" {
		return nil, errors.New("install seccomp filter: it notifies, and linux.seccomp.listenerPath is not set")
	}
	l := &Agent{message: specs.ContainerProcessState{Version: oci.SpecVersion, Fds: []string{specs.SeccompFdName}, Pid: maxPid,
		Metadata: s.ListenerMetadata, State: state}}
	if state.Pid == 0 {
		l.message.State.Pid = maxPid
	}
	if err := l.open(path); err != nil {
		l.Close()
		return nil, err
	}
	o.SeccompListener, o.SeccompState, o.SeccompStateSize = l.socket, l.state, l.size
	return l, nil
}

func (l *Agent) open(path string) (err error) {
	if l.socket, err = dialUnix(path); err != nil {
		return fmt.Errorf("failed to connect with seccomp agent: %w", err)
	}
	longest, err := json.Marshal(l.message)
	if err != nil {
		return err
	}
	l.size = len(longest)
	fd, err := unix.MemfdCreate("seccomp-state", unix.MFD_CLOEXEC)
	if err == nil {
		l.state = os.NewFile(uintptr(fd), "seccomp-state")
		err = l.state.Truncate(int64(l.size))
	}
	if err != nil {
		return fmt.Errorf("make state for the seccomp agent: %w", err)
	}
	return nil
}

// Fill writes the message of process pid in the container whose first process is init.
// What is shorter than the longest message is filled with spaces.
func (l *Agent) Fill(pid, init int) error {
	if l == nil {
		return nil
	}
	l.message.Pid, l.message.State.Pid = pid, init
	data, err := json.Marshal(l.message)
	if err != nil {
		return err
	}
	data = append(data, bytes.Repeat([]byte{' '}, max(0, l.size-len(data)))...)
	if _, err := l.state.WriteAt(data, 0); err != nil {
		return fmt.Errorf("write state for the seccomp agent: %w", err)
	}
	return nil
}

// Close closes this program's files of it.
func (l *Agent) Close() {
	if l == nil {
		return
	}
	for _, f := range []*os.File{l.socket, l.state} {
		if f != nil {
			f.Close()
		}
	}
}
