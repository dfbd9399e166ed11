package ociruntime

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hull/oci"
)

// fakeRdt is a directory that looks like a resctrl file system with one class in it. Its files
// are a plain file system's: a write replaces what was there, as the last one read shows.
func fakeRdt(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{".", "gold"} {
		os.MkdirAll(filepath.Join(root, dir, "mon_groups"), 0o755)
		os.WriteFile(filepath.Join(root, dir, "schemata"), []byte("    MB:0=100;1= 50\n    L3:0=7ff;1=00f\n"), 0o644)
	}
	return root
}

func TestRdtGroups(t *testing.T) {
	root := fakeRdt(t)
	schemata := func(dir string) string {
		data, _ := os.ReadFile(filepath.Join(root, dir, "schemata"))
		return string(data)
	}
	old := schemata("gold")
	for _, c := range []struct {
		name      string
		rdt       oci.LinuxIntelRdt
		dir, want string // where, and what is in its schemata afterwards
		stays     bool   // after remove
		err       string
	}{
		{name: "own", rdt: oci.LinuxIntelRdt{L3CacheSchema: "L3:0=f", MemBwSchema: "MB:0=20"}, dir: "c1", want: "MB:0=20\n"},
		{name: "own, whole", rdt: oci.LinuxIntelRdt{MemBwSchema: "MB:0=20", Schemata: []string{"L2:0=1", "L3:0=3"}}, dir: "c1", want: "L3:0=3\n"},
		{name: "own, nothing set", dir: "c1"},
		{name: "named, new", rdt: oci.LinuxIntelRdt{ClosID: "silver", L3CacheSchema: "L3:0=f"}, dir: "silver", want: "L3:0=f\n", stays: true},
		{name: "there", rdt: oci.LinuxIntelRdt{ClosID: "gold"}, dir: "gold", want: old, stays: true},
		{name: "there, the same", rdt: oci.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:0=7FF;1=f", MemBwSchema: "MB:1=50"}, dir: "gold", want: old, stays: true},
		{name: "root", rdt: oci.LinuxIntelRdt{ClosID: "/"}, dir: ".", want: old, stays: true},
		{name: "there, another", rdt: oci.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:0=7fe"}, dir: "gold", want: old, stays: true, err: "other schemas"},
		{name: "there, another cache", rdt: oci.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:7=7ff"}, dir: "gold", want: old, stays: true, err: "other schemas"},
		{name: "not there", rdt: oci.LinuxIntelRdt{ClosID: "bronze"}, dir: "bronze", err: "is not there"},
	} {
		g, err := makeRdt(root, "c1", &c.rdt)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: makeRdt = %v, want %q", c.name, err, c.err)
			continue
		}
		if err == nil {
			if want := []string{filepath.Join(root, c.dir) + "/tasks"}; !slices.Equal(g.enter(), want) {
				t.Errorf("%s: enter %q, want %q", c.name, g.enter(), want)
			}
		}
		if got := schemata(c.dir); got != c.want {
			t.Errorf("%s: schemata %q, want %q", c.name, got, c.want)
		}
		if !c.stays {
			os.Remove(filepath.Join(root, c.dir, "schemata")) // the kernel's files go with the directory
		}
		if err := g.remove(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err := os.Stat(filepath.Join(root, c.dir)); (err == nil) != c.stays {
			t.Errorf("%s: after its end: %v, want it to stay: %v", c.name, err, c.stays)
		}
	}
	g, err := makeRdt(root, "c2", &oci.LinuxIntelRdt{ClosID: "gold", EnableMonitoring: true})
	if err != nil {
		t.Fatal(err)
	}
	monitor := root + "/gold/mon_groups/c2"
	if got := g.enter(); len(got) != 2 || got[1] != monitor+"/tasks" {
		t.Errorf("enter %q", got)
	}
	r := &Runtime{Root: t.TempDir()}
	c := &Container{ID: "c2", Rdt: g, dir: filepath.Join(r.Root, "c2"), Spec: basicSpec("/nowhere", "true")}
	os.Mkdir(c.dir, 0o755)
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	if err := r.UpdateRdt("c2", &oci.LinuxIntelRdt{L3CacheSchema: "L3:0=1"}); err != nil || schemata("gold") != "L3:0=1\n" {
		t.Errorf("UpdateRdt = %v, schemata %q", err, schemata("gold"))
	}
	if err := g.remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(monitor); err == nil {
		t.Error("the monitoring group is left")
	}
}

func TestRdtRefused(t *testing.T) {
	for name, r := range map[string]oci.LinuxIntelRdt{
		"way out": {ClosID: "../x"}, "own directory": {ClosID: "info"}, "lines": {L3CacheSchema: "L3:0=f\nL3:1=f"},
		"more lines": {Schemata: []string{"L3:0=f\nL3:1=f"}}, "not memory": {MemBwSchema: "L3:0=f"},
	} {
		spec := basicSpec("/nowhere", "true")
		spec.Linux.IntelRdt = &r
		if err := Validate(spec); err == nil || !strings.Contains(err.Error(), "intelRdt") {
			t.Errorf("%s: Validate = %v", name, err)
		}
	}
	if _, err := rdtRoot(); err == nil {
		t.Skip("this host has resctrl")
	}
	r, b := bundle(t, func(s *oci.Spec) { s.Linux.IntelRdt = &oci.LinuxIntelRdt{L3CacheSchema: "L3:0=f"} }, "true")
	if _, err := r.Create(context.Background(), "c", CreateOptions{Bundle: b}); err == nil || !strings.Contains(err.Error(), "resctrl") {
		t.Errorf("Create without resctrl = %v", err)
	}
}
