package cgroup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/oci"
)

func p[T any](v T) *T { return &v }

func TestLookUp(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mounts := file("mountinfo", `30 22 0:27 / CG rw - tmpfs tmpfs rw
31 30 0:28 / CG/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:31 / CG/memory rw - cgroup cgroup rw,memory
33 30 0:32 /docker/x CG/pids rw - cgroup cgroup rw,pids
34 30 0:37 / CG/unified rw - cgroup2 cgroup2 rw
`)
	data, _ := os.ReadFile(mounts)
	os.WriteFile(mounts, []byte(strings.ReplaceAll(string(data), "CG", dir)), 0o600)
	h, err := lookUpIn(dir, mounts, file("cgroup", "4:cpu,cpuacct:/a\n3:memory:/\n2:pids:/docker/x/y\n0::/u\n"))
	if err != nil {
		t.Fatal(err)
	}
	if h.V2() || len(h.v1) != 3 {
		t.Fatalf("LookUp = %+v", h)
	}
	for c, want := range map[string]string{"cpu": "/a", "cpuacct": "/a", "memory": "/", "pids": "/y"} {
		if v := h.find(c); v == nil || v.own != want {
			t.Errorf("%s: %+v, want the own path %s", c, v, want)
		}
	}
	if got := h.Mounts(); len(got) != 4 || got[0].Dir != "cpu,cpuacct" || len(got[0].Options) != 2 || got[0].Path != "/a" || got[3].Options != nil || got[3].Path != "/u" {
		t.Errorf("Mounts = %+v", got)
	}
	if h.find("hugetlb") != nil {
		t.Error("a controller that is not mounted was found")
	}
}

func TestResolve(t *testing.T) {
	for path, want := range map[string]string{
		"/a/b": "/m/a/b", "x": "/m/own/x", "a/../../b": "", "": "", "/": "", "..": "", "/a\nb": "",
	} {
		got, err := resolve("/m", "/own", path)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("resolve(%q) = %q, %v, want %q", path, got, err, want)
		}
	}
}

func TestSettings2(t *testing.T) {
	r := &oci.LinuxResources{
		Memory: &oci.LinuxMemory{Limit: p(int64(100)), Swap: p(int64(150)), Reservation: p(int64(50))},
		CPU:    &oci.LinuxCPU{Shares: p(uint64(1024)), Quota: p(int64(50000)), Period: p(uint64(100000)), Cpus: "0-1"},
		Pids:   &oci.LinuxPids{Limit: p(int64(-1))},
		BlockIO: &oci.LinuxBlockIO{Weight: p(uint16(500)),
			ThrottleReadBpsDevice: []oci.LinuxThrottleDevice{throttleOf(8, 0, 1000)}},
		Unified: map[string]string{"memory.high": "90"},
	}
	list, err := settings2(r)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range list {
		got[s.file] = s.value
	}
	want := map[string]string{"memory.max": "100", "memory.swap.max": "50", "memory.low": "50", "cpu.weight": "39", "cpu.max": "50000 100000",
		"cpuset.cpus": "0-1", "pids.max": "max", "io.bfq.weight": "500", "io.weight": "default 4950", "io.max": "8:0 rbps=1000", "memory.high": "90"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("settings2 = %v, want %v", got, want)
	}
	for _, bad := range []*oci.LinuxResources{
		{Memory: &oci.LinuxMemory{Swap: p(int64(5))}},
		{Memory: &oci.LinuxMemory{Limit: p(int64(9)), Swap: p(int64(5))}},
		{Unified: map[string]string{"../x.y": "1"}},
		{Unified: map[string]string{"noController": "1"}},
	} {
		if _, err := settings2(bad); err == nil {
			t.Errorf("settings2(%+v): no error", bad)
		}
	}
}

func throttleOf(major, minor int64, rate uint64) oci.LinuxThrottleDevice {
	d := oci.LinuxThrottleDevice{Rate: rate}
	d.Major, d.Minor = major, minor
	return d
}

func TestRuleText(t *testing.T) {
	for want, r := range map[string]oci.LinuxDeviceCgroup{
		"a":           {},
		"c 1:3 rwm":   {Type: "c", Major: p(int64(1)), Minor: p(int64(3)), Access: "rwm"},
		"b *:* m":     {Type: "b", Access: "m"},
		"c 1:11 rw":   {Type: "c", Major: p(int64(1)), Minor: p(int64(11)), Access: "rwa"}, // the letter is none
		"c 136:* rwm": {Type: "c", Major: p(int64(136)), Minor: p(int64(-1))},
	} {
		if got := ruleText(r); got != want {
			t.Errorf("ruleText(%+v) = %q, want %q", r, got, want)
		}
	}
}

// run interprets a device program: the oracle of the compiler is the order of
// the rules themselves.
func run(t *testing.T, prog []byte, kind, access, major, minor uint32) bool {
	t.Helper()
	ctx := []uint32{access<<16 | kind, major, minor}
	var r [10]uint32
	for pc := 0; pc < len(prog)/8; pc++ {
		in := prog[8*pc:]
		op, dst, src := in[0], in[1]&15, in[1]>>4
		off := int16(uint16(in[2]) | uint16(in[3])<<8)
		imm := uint32(in[4]) | uint32(in[5])<<8 | uint32(in[6])<<16 | uint32(in[7])<<24
		switch op {
		case 0x61: // ldx w
			r[dst] = ctx[off/4]
		case 0xb4:
			r[dst] = imm
		case 0xbc:
			r[dst] = r[src]
		case 0x54:
			r[dst] &= imm
		case 0x74:
			r[dst] >>= imm
		case 0x55:
			if r[dst] != imm {
				pc += int(off)
			}
		case 0x95:
			return r[0] == 1
		default:
			t.Fatalf("instruction %d: code %#x", pc, op)
		}
	}
	t.Fatal("the program does not end")
	return false
}

func TestDeviceProgram(t *testing.T) {
	rules := []oci.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Access: "m"},
		{Allow: true, Type: "c", Major: p(int64(1)), Minor: p(int64(3)), Access: "rwm"},
		{Allow: true, Type: "c", Major: p(int64(136)), Access: "rw"},
		{Allow: false, Type: "c", Major: p(int64(136)), Minor: p(int64(9)), Access: "w"},
	}
	prog, err := deviceProgram(rules)
	if err != nil {
		t.Fatal(err)
	}
	const mknod, read, write = 1, 2, 4
	for _, c := range []struct {
		kind, access, major, minor uint32
		want                       bool
	}{
		{2, read | write, 1, 3, true}, {2, mknod, 8, 0, true}, {1, mknod, 8, 0, false}, {1, read, 8, 0, false},
		{2, read, 5, 0, false}, {2, read | write, 136, 2, true}, {2, read | mknod, 136, 2, false}, {2, write, 136, 9, false}, {2, read, 136, 9, true},
	} {
		if got := run(t, prog, c.kind, c.access, c.major, c.minor); got != c.want {
			t.Errorf("type %d access %d of %d:%d: %v, want %v", c.kind, c.access, c.major, c.minor, got, c.want)
		}
	}
	if _, err := deviceProgram([]oci.LinuxDeviceCgroup{{Type: "x"}}); err == nil {
		t.Error("a rule of an unknown type was compiled")
	}
}

// group makes a group of this host and removes it after the test.
func group(t *testing.T, r *oci.LinuxResources) *Group {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes cgroups")
	}
	h, err := LookUp()
	if err != nil {
		t.Fatal(err)
	}
	if !h.V2() && len(h.v1) == 0 {
		t.Skip("no cgroups are mounted here")
	}
	g, err := h.Create(context.Background(), fmt.Sprintf("/hull-test/%d-%s", os.Getpid(), t.Name()), r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Kill()
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
		g.each(func(dir string) error { unix.Rmdir(filepath.Dir(dir)); return nil })
	})
	return g
}

// in runs a shell script inside the group.
func in(g *Group, script string) *exec.Cmd {
	enter := ""
	for _, f := range g.Procs() {
		enter += "echo 0 >" + f + " || exit 99; "
	}
	return exec.Command("/bin/sh", "-c", enter+script)
}

func TestLimitsHold(t *testing.T) {
	g := group(t, &oci.LinuxResources{
		Memory: &oci.LinuxMemory{Limit: p(int64(32 << 20)), Swap: p(int64(32 << 20))},
		Pids:   &oci.LinuxPids{Limit: p(int64(5))},
		CPU:    &oci.LinuxCPU{Quota: p(int64(20000)), Period: p(uint64(100000))},
	})
	err := in(g, "exec dd if=/dev/zero of=/dev/null bs=200M count=1").Run()
	if kills, _ := g.OOMKills(); err == nil || kills == 0 {
		t.Errorf("200 MB in a group of 32 MB: %v, %d kills", err, kills)
	}
	out, _ := in(g, "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait").CombinedOutput()
	if !strings.Contains(string(out), "fork") {
		t.Errorf("9 processes in a group of 5: %s", out)
	}
	before, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	in(g, "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done").Run()
	s, err := g.Stats()
	if err != nil || s.CPU == 0 || s.PidsLimit != 5 || s.MemoryLimit != 32<<20 {
		t.Errorf("Stats = %+v, %v", s, err)
	}
	// On a busy machine it may get less than its share, and is never throttled.
	if used, all := s.CPU-before.CPU, time.Since(begin); s.CPUThrottled == 0 && used > 100*time.Millisecond && used > all*3/10 {
		t.Errorf("never throttled: %v of %v at 20 %%", used, all)
	}
	h, _ := LookUp()
	again, err := h.Open(g.String())
	if err != nil || len(again.Procs()) != len(g.Procs()) {
		t.Errorf("Open(%q) = %v, %v", g, again, err)
	}
}

// Limits that were not thought of at the group's creation: the controller is entered,
// whoever was first; and pairs of limits are changed in the order that the kernel takes.
func TestSetLater(t *testing.T) {
	g := group(t, &oci.LinuxResources{
		CPU:    &oci.LinuxCPU{Quota: p(int64(50000)), Period: p(uint64(100000))},
		Memory: &oci.LinuxMemory{Limit: p(int64(32 << 20)), Swap: p(int64(32 << 20))},
	})
	cmd := in(g, "x=$(head -c 4000000 /dev/zero | tr '\\0' a); sleep 100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { g.Kill(); cmd.Wait() }()
	for i := 0; i < 200; i++ {
		if s, err := g.Stats(); err == nil && s.Memory > 1<<20 {
			break // the kernel counts in lots
		}
		time.Sleep(5 * time.Millisecond)
	}
	steps := []*oci.LinuxResources{
		{CPU: &oci.LinuxCPU{Cpus: "0"}},
		{Memory: &oci.LinuxMemory{Limit: p(int64(64 << 20)), Swap: p(int64(64 << 20))}},
		{Memory: &oci.LinuxMemory{Limit: p(int64(16 << 20)), Swap: p(int64(16 << 20))}},
		{Memory: &oci.LinuxMemory{Limit: p(int64(-1))}},
	}
	for _, r := range steps {
		if err := g.Set(r); err != nil {
			t.Errorf("Set: %v", err)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil || !strings.Contains(string(status), "Cpus_allowed_list:\t0\n") {
		t.Errorf("the process is not bound to CPU 0: %v", err)
	}
	if s, err := g.Stats(); err != nil || s.MemoryLimit != 0 && s.MemoryLimit < 1<<60 {
		t.Errorf("Stats = %+v, %v: memory has a limit", s, err)
	}
	check := true
	for limit, want := range map[int64]bool{4096: false, 64 << 20: true} {
		if err := g.Set(&oci.LinuxResources{Memory: &oci.LinuxMemory{Limit: &limit, CheckBeforeUpdate: &check}}); (err == nil) != want {
			t.Errorf("a limit of %d, checked against what is in use: %v", limit, err)
		}
	}
	if err := g.Set(&oci.LinuxResources{CPU: &oci.LinuxCPU{Cpus: "4000"}}); err == nil {
		t.Error("a CPU that no host has was taken")
	}
	below, err := g.h.Create(context.Background(), g.path+"/below", &oci.LinuxResources{CPU: &oci.LinuxCPU{Quota: p(int64(500000)), Period: p(uint64(1000000))}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer below.Remove()
	if err := below.Set(&oci.LinuxResources{CPU: &oci.LinuxCPU{Quota: p(int64(3000)), Period: p(uint64(10000))}}); err != nil {
		t.Errorf("30 %% in a shorter period below a group of 50 %%: %v", err)
	}
}

// The hierarchy of version 2 beside version 1 is joined when it is asked for.
func TestHybrid(t *testing.T) {
	g := group(t, nil)
	if g.h.V2() || g.h.hybrid == "" {
		t.Skip("needs a host with cgroups of both versions")
	}
	if g.dirs[unified] != "" {
		t.Error("joined unasked")
	}
	h, err := g.h.Create(context.Background(), g.path+"/both", nil, Options{Hybrid: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		h.Remove()
		for p := filepath.Join(g.h.hybrid, g.h.own2, g.path); p != g.h.hybrid && unix.Rmdir(p) == nil; p = filepath.Dir(p) {
		}
	}()
	dir, err := h.Dir()
	if err != nil || dir == nil {
		t.Fatal(dir, err)
	}
	defer dir.Close()
	cmd := in(h, "cat /proc/self/cgroup")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "0::"+g.path+"/both\n") {
		t.Errorf("groups %q, %v", out, err)
	}
}

func TestFreezeAndKill(t *testing.T) {
	g := group(t, nil)
	cmd := in(g, "sleep 100 & sleep 100 & wait")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if pids, err := g.Pids(); err != nil || len(pids) == 3 || i > 200 {
			if len(pids) != 3 {
				t.Fatalf("Pids = %v, %v, want 3", pids, err)
			}
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := g.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); !frozen || err != nil {
		t.Errorf("Frozen = %v, %v", frozen, err)
	}
	if err := g.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if pids, _ := g.Pids(); len(pids) != 0 {
		t.Errorf("left: %v", pids)
	}
}

// CG-02: devices that no rule allows cannot be opened.
func TestCG02Devices(t *testing.T) {
	g := group(t, &oci.LinuxResources{Devices: []oci.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Major: p(int64(1)), Minor: p(int64(3)), Access: "rwm"},
	}})
	dir := t.TempDir()
	out, _ := in(g, "cd "+dir+" && echo x >/dev/null && echo null; cat </dev/zero 2>&1 | head -c 1; mknod disk b 8 0 2>&1; mknod null c 1 3 && echo made").CombinedOutput()
	if !strings.Contains(string(out), "null\n") || strings.Count(string(out), "not permitted") != 2 || !strings.Contains(string(out), "made") {
		t.Errorf("output %q", out)
	}
}

func BenchmarkCreate(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	h, err := LookUp()
	if err != nil {
		b.Fatal(err)
	}
	r := &oci.LinuxResources{Pids: &oci.LinuxPids{Limit: p(int64(2048))}}
	for b.Loop() {
		g, err := h.Create(context.Background(), "/hull-bench", r, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Remove(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestLookUpBothWays: where hierarchies are mounted as everybody does, the
// short way finds what the list of mounts says.
func TestLookUpBothWays(t *testing.T) {
	own, lists, err := ownPaths("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var short Host
	if !short.conventional(mountPoint, lists, own) {
		t.Skip("version 1 is not mounted here, or elsewhere")
	}
	long := Host{own2: own[""]}
	if err := long.readMounts(mountPoint, "/proc/self/mountinfo", own); err != nil {
		t.Fatal(err)
	}
	if short.hybrid != long.hybrid || len(short.v1) != len(long.v1) || len(short.mounts) != len(long.mounts) {
		t.Fatalf("the short way finds %+v, the long one %+v", short, long)
	}
	for _, want := range long.v1 {
		if got := short.find(want.controllers[0]); got == nil || got.dir != want.dir || got.own != want.own {
			t.Errorf("%v: the short way finds %+v, the long one %+v", want.controllers, got, want)
		}
	}
}
