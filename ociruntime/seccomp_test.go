package ociruntime

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"hull/oci"
)

// notifying makes a configuration whose filter notifies of mkdir.
func notifying(path string) func(*oci.Spec) {
	return func(s *oci.Spec) {
		s.Annotations = map[string]string{"a": strings.Repeat("long", 1000)}
		s.Linux.Seccomp = &oci.LinuxSeccomp{DefaultAction: "SCMP_ACT_ALLOW", ListenerPath: path, ListenerMetadata: "tag",
			Syscalls: []oci.LinuxSyscall{{Names: []string{"mkdir"}, Action: "SCMP_ACT_NOTIFY"}}}
	}
}

// An agent gets the container process state of the specification and a descriptor, for
// the container's process, for one that is executed in it, and for a startContainer hook.
func TestSeccompAgent(t *testing.T) {
	busyboxRoot(t)
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, b := bundle(t, func(s *oci.Spec) {
		notifying(socket)(s)
		s.Hooks = &oci.Hooks{StartContainer: []oci.Hook{{Path: "/bin/true"}}}
	}, "sleep", "100")
	messages := make(chan specs.ContainerProcessState, 3)
	go func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			var m specs.ContainerProcessState
			buf, oob := make([]byte, 1<<16), make([]byte, unix.CmsgSpace(4))
			n, k, _, _, _ := conn.ReadMsgUnix(buf, oob)
			if msgs, err := unix.ParseSocketControlMessage(oob[:k]); err == nil && len(msgs) == 1 {
				if fds, err := unix.ParseUnixRights(&msgs[0]); err == nil {
					if json.Unmarshal(buf[:n], &m) != nil {
						m.Metadata = string(buf[:n])
					}
					unix.Close(fds[0])
				}
			}
			conn.Close()
			messages <- m
		}
	}()
	receive := func() specs.ContainerProcessState {
		t.Helper()
		select {
		case m := <-messages:
			return m
		case <-time.After(5 * time.Second):
			t.Fatal("no message came")
		}
		panic("unreachable")
	}
	ctx := context.Background()
	c, err := r.Create(ctx, "c", CreateOptions{Bundle: b})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	for _, hook := range []bool{true, false} {
		// The hook's process connects later than the container's, and is accepted later.
		m := receive()
		if m.Metadata != "tag" || len(m.Fds) != 1 || m.Fds[0] != specs.SeccompFdName || m.State.ID != "c" || m.State.Pid != c.Init.Pid || len(m.State.Annotations["a"]) != 4000 {
			t.Errorf("message %+v (hook %v), container's process is %d", m, hook, c.Init.Pid)
		}
	}
	pid := 0
	code, err := r.Exec(ctx, "c", ExecOptions{Process: &oci.Process{Args: []string{"true"}, Cwd: "/", Env: []string{"PATH=/bin"}}, Started: func(p int) { pid = p }})
	if code != 0 || err != nil {
		t.Errorf("Exec = %d, %v", code, err)
	}
	if m := receive(); m.Pid != pid || m.State.Pid != c.Init.Pid || m.State.Status != "running" {
		t.Errorf("message of exec: pid %d, state %+v; want %d", m.Pid, m.State.Pid, pid)
	}
}

// Without an agent, or with a path that is none, the container is not made.
func TestSeccompAgentMissing(t *testing.T) {
	for path, want := range map[string]string{"": "listenerPath is not set", "/nonexistent/agent": "failed to connect with seccomp agent"} {
		r, b := bundle(t, notifying(path), "true")
		if _, err := r.Create(context.Background(), "c", CreateOptions{Bundle: b}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listener %q: Create = %v, want %q", path, err, want)
		}
	}
	// A filter that does not notify needs none.
	r, b := bundle(t, func(s *oci.Spec) {
		notifying("/nonexistent/agent")(s)
		s.Linux.Seccomp.Syscalls = nil
	}, "true")
	if code, err := r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b}}); code != 0 || err != nil {
		t.Errorf("Run = %d, %v", code, err)
	}
}

// A startContainer hook is a program of the container: it gets no more than the
// container's process, so the filter and the user hold for it as well.
func TestStartContainerHookIsConfined(t *testing.T) {
	for name, hook := range map[string]struct {
		args []string
		want string
	}{
		"user":    {[]string{"sh", "-c", "test $(busybox id -u) = 7"}, ""},
		"rights":  {[]string{"sh", "-c", "busybox grep -q '^CapEff:.*0000000000000000' /proc/self/status"}, ""},
		"seccomp": {[]string{"sh", "-c", "busybox mkdir /tmp/x"}, "bad system call"},
		"exit":    {[]string{"sh", "-c", "exit 3"}, "exit status 3"},
	} {
		r, b := bundle(t, func(s *oci.Spec) {
			s.Process.User.UID = 7
			s.Process.Capabilities.Effective = nil
			s.Linux.Seccomp = &oci.LinuxSeccomp{DefaultAction: "SCMP_ACT_ALLOW", Syscalls: []oci.LinuxSyscall{{Names: []string{"mkdir"}, Action: "SCMP_ACT_KILL_PROCESS"}}}
			s.Hooks = &oci.Hooks{StartContainer: []oci.Hook{{Path: "/bin/sh", Args: hook.args, Env: []string{"PATH=/bin"}}}}
		}, "true")
		if name == "seccomp" {
			// sh would report its child's death as a status.
			r, b = bundle(t, func(s *oci.Spec) {
				s.Linux.Seccomp = &oci.LinuxSeccomp{DefaultAction: "SCMP_ACT_ALLOW", Syscalls: []oci.LinuxSyscall{{Names: []string{"mkdir"}, Action: "SCMP_ACT_KILL_PROCESS"}}}
				s.Hooks = &oci.Hooks{StartContainer: []oci.Hook{{Path: "/bin/busybox", Args: []string{"mkdir", "/tmp/x"}}}}
			}, "true")
		}
		_, err := r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b}})
		if hook.want == "" && err != nil || hook.want != "" && (err == nil || !strings.Contains(err.Error(), hook.want)) {
			t.Errorf("%s: Run = %v, want %q", name, err, hook.want)
		}
		if _, err := os.Stat(filepath.Join(r.Root, "c")); err == nil {
			t.Errorf("%s: the container's directory is left", name)
		}
	}
}
