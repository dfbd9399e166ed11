package engine

import (
	"encoding/binary"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Requests of seccomp listeners, and the sizes of what they read and write.
const (
	notifReceive = 0xc0502100
	notifSend    = 0xc0182101
	notifSize    = 80
	answerSize   = 24
)

// seccompAgent listens at a socket and answers what filters notify of with ELOOP, which no
// kernel would. It returns what it was told, message by message.
func seccompAgent(t *testing.T, socket string) <-chan specs.ContainerProcessState {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	told := make(chan specs.ContainerProcessState, 10)
	go func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			buf, oob := make([]byte, 1<<16), make([]byte, unix.CmsgSpace(4))
			n, k, _, _, _ := conn.ReadMsgUnix(buf, oob)
			conn.Close()
			var m specs.ContainerProcessState
			messages, err := unix.ParseSocketControlMessage(oob[:k])
			if err != nil || len(messages) != 1 || json.Unmarshal(buf[:n], &m) != nil {
				continue
			}
			if fds, err := unix.ParseUnixRights(&messages[0]); err == nil {
				go answer(fds[0])
			}
			told <- m
		}
	}()
	return told
}

func answer(fd int) {
	defer unix.Close(fd)
	for {
		var asked [notifSize]byte
		var reply [answerSize]byte
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifReceive, uintptr(unsafe.Pointer(&asked))); e == unix.EINTR {
			continue
		} else if e != 0 {
			return
		}
		copy(reply[:8], asked[:8]) // its number
		e := unix.ELOOP
		binary.NativeEndian.PutUint32(reply[16:], uint32(-int32(e)))
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifSend, uintptr(unsafe.Pointer(&reply))); e != 0 && e != unix.ENOENT {
			return
		}
	}
}

// A filter that notifies is handed to its agent, with the state of the container and the number
// of the process, for run, for the forms of exec, and by the annotation that crun has.
func TestSeccompAgent(t *testing.T) {
	h := newHarness(t)
	socket := filepath.Join(h.dir, "agent")
	told := seccompAgent(t, socket)
	profile := func(name, path string) string {
		file := filepath.Join(h.dir, name)
		data, _ := json.Marshal(map[string]any{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "tag",
			"syscalls": []map[string]any{{"names": []string{"mkdir", "mkdirat"}, "action": "SCMP_ACT_NOTIFY"}}})
		os.WriteFile(file, data, 0o644)
		return "seccomp=" + file
	}
	next := func(what string) (m specs.ContainerProcessState) {
		t.Helper()
		select {
		case m = <-told:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: the agent was not told", what)
		}
		if m.Metadata != "tag" || len(m.Fds) != 1 || m.Pid <= 0 || m.State.Pid <= 0 || m.State.ID == "" {
			t.Errorf("%s: the agent was told %+v", what, m)
		}
		return m
	}
	const script = "mkdir /x 2>&1 | grep -o 'symbolic links\\|Symbolic link loop'"
	for range 2 { // compiled, and from the store
		o := h.options("sh", "-c", script)
		o.SecurityOpt = []string{profile("profile.json", socket)}
		if got := strings.ToLower(h.output(o)); !strings.Contains(got, "symbolic link") {
			t.Errorf("mkdir said %q", got)
		}
		next("run")
	}
	o := h.options("sleep", "1000")
	o.SecurityOpt = []string{profile("bare.json", "")}
	o.Annotations = map[string]string{"run.oci.seccomp.receiver": socket}
	id := h.detached(o)
	init := next("annotation")
	if s := h.status(id); init.State.Pid != s.Pid || init.Pid != s.Pid || init.State.ID != id || init.State.Status != "creating" {
		t.Errorf("the agent was told %+v, the container's process is %d", init.State, s.Pid)
	}
	if _, out := h.exec(id, "sh", "-c", script); !strings.Contains(strings.ToLower(out), "symbolic link") {
		t.Errorf("exec: mkdir said %q", out)
	}
	if m := next("exec"); m.Pid == init.Pid || m.State.Pid != init.Pid || m.State.Status != "running" {
		t.Errorf("exec: the agent was told %+v", m)
	}
	if _, err := h.e.Exec(t.Context(), id, ExecOptions{Command: []string{"true"}, Detach: true}); err != nil {
		t.Errorf("exec --detach: %v", err)
	}
	next("exec --detach")

	for _, path := range []string{"", filepath.Join(h.dir, "nobody")} {
		o := h.options("true")
		o.SecurityOpt = []string{profile("none.json", path)}
		if _, _, _, err := h.run(o); err == nil || !strings.Contains(err.Error(), "seccomp") {
			t.Errorf("listenerPath %q: run = %v", path, err)
		}
	}
}
