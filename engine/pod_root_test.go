package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pod makes a pod without a network, and removes it at the end.
func (h *harness) pod(o PodOptions) string {
	h.Helper()
	if !o.NoInfra && o.Infra.NetworkMode == "" {
		o.Infra.NetworkMode = "none"
	}
	id, err := h.e.PodCreate(context.Background(), o)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		now := uint(0)
		if _, err := h.e.PodRemove(context.Background(), id, PodRemoveOptions{Force: true, Timeout: &now}); err != nil && !errors.Is(err, ErrNotFound) {
			h.Error(err)
		}
	})
	return id
}

// member are options of a container in a pod.
func (h *harness) member(pod string, args ...string) CreateOptions {
	o := h.options(args...)
	o.NetworkMode, o.Pod = "", pod
	return o
}

// said runs a container to its end and returns what it wrote.
func (h *harness) said(o CreateOptions) string {
	h.Helper()
	var out bytes.Buffer
	o.AutoRemove = true
	r, err := h.e.Run(context.Background(), o, RunOptions{Streams: Streams{Stdout: &out, Stderr: &out}})
	if err != nil || r.Code != 0 {
		h.Fatalf("run %v: %v, code %d: %s", o.Command, err, r.Code, out.String())
	}
	return out.String()
}

func (h *harness) podIs(pod, want string) {
	h.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		p, err := h.e.PodInspect(context.Background(), pod)
		if err != nil {
			h.Fatal(err)
		}
		if p.State == want {
			return
		}
		if time.Now().After(end) {
			h.Fatalf("pod is %s, want %s: %+v", p.State, want, p.Containers)
		}
	}
}

// running starts a container and returns its first process.
func (h *harness) running(o CreateOptions) int {
	h.Helper()
	ctx := context.Background()
	r, err := h.e.Run(ctx, o, RunOptions{Detach: true})
	if err != nil {
		h.Fatal(err)
	}
	_, s, err := h.e.open(ctx, r.ID)
	if err != nil {
		h.Fatal(err)
	}
	return s.Pid
}

func TestPodNamespaces(t *testing.T) {
	h := newHarness(t)
	all := h.pod(PodOptions{Name: "all", Share: []string{"net", "ipc", "uts", "pid", "cgroup"}})
	some := h.pod(PodOptions{Name: "some"})
	for pod, kinds := range map[string]string{all: "net ipc uts pid cgroup", some: "net ipc uts"} {
		a, b := h.running(h.member(pod, "sleep", "1000")), h.running(h.member(pod, "sleep", "1000"))
		for _, kind := range []string{"net", "ipc", "uts", "pid", "mnt", "cgroup"} {
			one, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", a, kind))
			other, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", b, kind))
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			want := strings.Contains(" "+kinds+" ", " "+kind+" ")
			if kind == "cgroup" && !want && !cgroupV2() {
				continue // the host's, on version 1
			}
			if (one == other) != want {
				t.Errorf("%s: %s and %s, shared should be %v", kind, one, other, want)
			}
		}
	}
	if got := h.said(h.member(some, "sh", "-c", "hostname; cat /etc/hostname; echo x > /dev/shm/f")); got != "some\nsome\n" {
		t.Errorf("host name %q", got)
	}
	if got := h.said(h.member(some, "cat", "/dev/shm/f")); got != "x\n" {
		t.Errorf("/dev/shm is not the pod's: %q", got)
	}
	if got := h.said(h.member(some, "grep", "-c", "127.0.0.1", "/etc/hosts")); got != "5\n" { // localhost, the pod, two members and this one
		t.Errorf("%s names at 127.0.0.1: those that ended are to be gone", strings.TrimSpace(got))
	}
	o := h.member(some, "hostname")
	o.UtsNS = "host"
	if host, _ := os.Hostname(); h.said(o) != host+"\n" {
		t.Error("a member cannot have the host's uts namespace")
	}
}

// The infra process is small, and reaps what is left to it.
func TestPodInfraProcess(t *testing.T) {
	h := newHarness(t)
	pod := h.pod(PodOptions{Share: []string{"pid"}})
	if _, err := h.e.PodStart(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	list, err := h.e.members(pod)
	if err != nil || len(list) != 1 || list[0].s.Pid == 0 {
		t.Fatalf("members %v: %v", list, err)
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", list[0].s.Pid))
	if err != nil {
		t.Fatal(err)
	}
	private := 0
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Private_") {
			n, _ := strconv.Atoi(f[1])
			private += n
		}
	}
	if private > 300 {
		t.Errorf("the infra process has %d kB of its own, more than 300", private)
	}
	out := h.said(h.member(pod, "sh", "-c", "(sleep 0.1 & ) ; sleep 0.4; ps; cat /proc/1/status"))
	if strings.Contains(out, "Z ") {
		t.Errorf("a process is left dead:\n%s", out)
	}
	for _, want := range []string{"hull-infra", "CapEff:\t0000000000000000"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestPodLife(t *testing.T) {
	h := newHarness(t)
	ctx := context.Background()
	pod := h.pod(PodOptions{Name: "p", Restart: "always"})
	a, err := h.e.Create(ctx, h.member(pod, "sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	o := h.member(pod, "sleep", "1000")
	o.Requires, o.Name = []string{a}, "b"
	if _, err := h.e.Create(ctx, o); err != nil {
		t.Fatal(err)
	}
	h.podIs(pod, PodCreated)
	now := uint(0)
	for _, step := range []struct {
		do   func() (string, error)
		want string
	}{
		{func() (string, error) { return h.e.PodStart(ctx, "p") }, PodRunning},
		{func() (string, error) { return h.e.PodStart(ctx, pod[:10]) }, PodRunning},
		{func() (string, error) { return h.e.PodStop(ctx, "p", StopOptions{Timeout: &now}) }, PodExited},
		{func() (string, error) { return h.e.PodRestart(ctx, "p") }, PodRunning},
		{func() (string, error) { return h.e.PodKill(ctx, "p", "KILL") }, PodExited},
		{func() (string, error) { return "", h.e.Start(ctx, "b") }, PodRunning}, // what it needs is started as well
	} {
		if _, err := step.do(); err != nil {
			t.Fatal(err)
		}
		h.podIs(pod, step.want)
	}
	// The policy of the pod is its members'.
	r, s, err := h.e.open(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	first := s.Pid
	unix.Kill(first, unix.SIGKILL)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if s, err = h.e.state(r); err == nil && s.Pid != 0 && s.Pid != first {
			break
		}
	}
	if s.Pid == first || s.Restarts != 1 {
		t.Errorf("killed, the member is %+v", s)
	}
	if _, err := h.e.PodRemove(ctx, "p", PodRemoveOptions{}); !errors.Is(err, ErrState) {
		t.Errorf("a running pod is removed: %v", err)
	}
	infra, _ := h.e.loadPod(pod)
	if _, err := h.e.Remove(ctx, infra.Infra, RemoveOptions{Force: true}); !errors.Is(err, ErrInUse) {
		t.Errorf("the infra container is removed without its pod: %v", err)
	}
}

func TestPodExitPolicy(t *testing.T) {
	h := newHarness(t)
	for policy, want := range map[string]string{"stop": PodExited, "continue": PodDegraded} {
		pod := h.pod(PodOptions{ExitPolicy: policy})
		o := h.member(pod, "true")
		if r, err := h.e.Run(context.Background(), o, RunOptions{Streams: Streams{}}); err != nil || r.Code != 0 {
			t.Fatal(err, r.Code)
		}
		h.podIs(pod, want)
	}
}

func TestPodInitContainers(t *testing.T) {
	h := newHarness(t)
	ctx := context.Background()
	dir := t.TempDir()
	pod := h.pod(PodOptions{Infra: CreateOptions{Mounts: []Mount{{Type: "bind", Source: dir, Destination: "/log"}}}})
	for _, kind := range []string{"always", "once"} {
		o := h.member(pod, "sh", "-c", "echo "+kind+" >> /log/log")
		o.InitCtr = kind
		if _, err := h.e.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.e.Create(ctx, h.member(pod, "sh", "-c", "echo main >> /log/log; sleep 1000")); err != nil {
		t.Fatal(err)
	}
	now := uint(0)
	for range 2 {
		if _, err := h.e.PodStart(ctx, pod); err != nil {
			t.Fatal(err)
		}
		if _, err := h.e.PodStop(ctx, pod, StopOptions{Timeout: &now}); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := os.ReadFile(dir + "/log")
	if text := strings.ReplaceAll(string(got), "\n", " "); !strings.HasPrefix(text, "always once ") || strings.Count(text, "always") != 2 || strings.Count(text, "once") != 1 {
		t.Errorf("in this order: %s", text)
	}
	// One that fails keeps the others from starting.
	o := h.member(pod, "false")
	o.InitCtr = "always"
	if _, err := h.e.Create(ctx, o); err != nil {
		t.Fatal(err)
	}
	if _, err := h.e.PodStart(ctx, pod); err == nil || !strings.Contains(err.Error(), "exited with code 1") {
		t.Errorf("after a failed init container: %v", err)
	}
}

// A creation that was cut off leaves nothing.
func TestPodCreateCutOff(t *testing.T) {
	h := newHarness(t)
	ctx := context.Background()
	pod := h.pod(PodOptions{Name: "p"})
	p, err := h.e.loadPod(pod)
	if err != nil {
		t.Fatal(err)
	}
	p.Incomplete = true
	if err := h.e.savePod(p); err != nil {
		t.Fatal(err)
	}
	l, err := h.e.lock(ctx, "pod", pod)
	if err != nil {
		t.Fatal(err)
	}
	l.abandon() // as a kill would
	if err := h.e.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	if ids, _ := h.e.containerIDs(); h.e.podExists(pod) || len(ids) > 0 {
		t.Errorf("left: pod %v, containers %v", h.e.podExists(pod), ids)
	}
	h.pod(PodOptions{Name: "p"})
}

// A pod's limits are those of all its members together.
func TestPodLimits(t *testing.T) {
	h := newHarness(t)
	pod := h.pod(PodOptions{Resources: Resources{Memory: 64 << 20}})
	h.said(h.member(pod, "true"))
	p, _ := h.e.loadPod(pod)
	group := h.e.podGroup(p)
	for _, file := range []string{"/sys/fs/cgroup" + group + "/memory.max", "/sys/fs/cgroup/memory" + group + "/memory.limit_in_bytes"} {
		if b, err := os.ReadFile(file); err == nil {
			if strings.TrimSpace(string(b)) != "67108864" {
				t.Errorf("%s is %s", file, b)
			}
			return
		}
	}
	t.Error("the pod has no cgroup")
}
