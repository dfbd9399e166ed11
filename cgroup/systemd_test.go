package cgroup

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"hull/oci"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestSplitUnit(t *testing.T) {
	for path, want := range map[string]string{
		"machine.slice:hull:abc": "machine.slice hull-abc.scope", "a-b.slice:libpod:x": "a-b.slice libpod-x.scope",
		":runc:x": " runc-x.scope", "a.slice::x": "a.slice x.scope", "::machine-hull_pod_1.slice": " machine-hull_pod_1.slice",
		"a.slice:p:x.slice":   "a.slice x.slice",
		"/machine.slice/hull": "", "x": "", "a:b": "", "a:b:c": "", "a.slice:b:": "", "a.slice:b:c:d": "", "a.slice:b:c/d": "",
	} {
		slice, unit, ok := SplitUnit(path)
		got := ""
		if ok {
			got = slice + " " + unit
		}
		if got != want {
			t.Errorf("SplitUnit(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestSliceDir(t *testing.T) {
	for slice, want := range map[string]string{
		"-.slice": "/", "machine.slice": "/machine.slice", "a-b-c.slice": "/a.slice/a-b.slice/a-b-c.slice", "": "/",
		"machine-hull_pod_1.slice": "/machine.slice/machine-hull_pod_1.slice",
	} {
		if got := SliceDir(slice); got != want {
			t.Errorf("SliceDir(%q) = %q, want %q", slice, got, want)
		}
	}
}

// The golden list says what systemd is told of each limit.
func TestProperties(t *testing.T) {
	cases := []struct {
		name string
		r    oci.LinuxResources
	}{
		{"memory", oci.LinuxResources{Memory: &oci.LinuxMemory{Limit: p(int64(64 << 20)), Swap: p(int64(96 << 20)), Reservation: p(int64(32 << 20))}}},
		{"memory without a limit", oci.LinuxResources{Memory: &oci.LinuxMemory{Limit: p(int64(-1)), Swap: p(int64(-1))}}},
		{"half a processor", oci.LinuxResources{CPU: &oci.LinuxCPU{Quota: p(int64(50000)), Period: p(uint64(100000)), Shares: p(uint64(1024))}}},
		{"a third of one, rounded up", oci.LinuxResources{CPU: &oci.LinuxCPU{Quota: p(int64(33333)), Period: p(uint64(100000))}}},
		{"another period", oci.LinuxResources{CPU: &oci.LinuxCPU{Quota: p(int64(5000)), Period: p(uint64(20000))}}},
		{"no quota", oci.LinuxResources{CPU: &oci.LinuxCPU{Quota: p(int64(-1))}}},
		{"processors", oci.LinuxResources{CPU: &oci.LinuxCPU{Cpus: "0-2,9", Mems: "0"}}},
		{"pids", oci.LinuxResources{Pids: &oci.LinuxPids{Limit: p(int64(42))}}},
		{"no pids limit", oci.LinuxResources{Pids: &oci.LinuxPids{Limit: p(int64(-1))}}},
		{"io", oci.LinuxResources{BlockIO: &oci.LinuxBlockIO{Weight: p(uint16(500)),
			ThrottleReadBpsDevice: []oci.LinuxThrottleDevice{throttleOf(8, 0, 1000), throttleOf(8, 16, 2000)}, ThrottleWriteIOPSDevice: []oci.LinuxThrottleDevice{throttleOf(8, 0, 5)}}}},
		{"unified", oci.LinuxResources{Unified: map[string]string{"memory.high": "90", "memory.min": "max", "cpu.max": "max 100000", "memory.oom.group": "1",
			"hugetlb.2MB.max": "0", "cpuset.cpus": "root", "io.max": "8:0 wbps=max"}}},
	}
	var b strings.Builder
	for _, c := range cases {
		list, err := settings2(&c.r)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortStableFunc(list, func(a, b setting) int { return strings.Compare(a.file, b.file) })
		fmt.Fprintf(&b, "# %s\n", c.name)
		for _, s := range list {
			fmt.Fprintf(&b, "%s = %s\n", s.file, s.value)
		}
		for _, prop := range properties(list) {
			fmt.Fprintf(&b, "\t%s=%v\n", prop.Name, prop.Value)
		}
	}
	const golden = "testdata/properties.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, _ := os.ReadFile(golden)
	if b.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// A holder ends when it is told to, and holds nothing after that.
func TestHolder(t *testing.T) {
	h, err := newHolder()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", h.pid)); err != nil {
		t.Error(err)
	}
	h.end()
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", h.pid)); err == nil {
		t.Error("the holder is still there")
	}
}
