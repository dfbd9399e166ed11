package criu

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hull/oci"
)

func TestMessage(t *testing.T) {
	var inner, m message
	inner.text(1, "net")
	m.number(1, 300)
	m.flag(2, false)
	m.flag(3, true)
	m.bytes(27, inner)
	want := []byte{0x08, 0xac, 0x02, 0x18, 0x01, 0xda, 0x01, 0x05, 0x0a, 0x03, 'n', 'e', 't'}
	if !bytes.Equal(m, want) {
		t.Fatalf("message = % x, want % x", []byte(m), want)
	}
	var fields []int
	if err := m.fields(func(n int, _ uint64, _ []byte) { fields = append(fields, n) }); err != nil || !slices.Equal(fields, []int{1, 3, 27}) {
		t.Errorf("fields = %v, %v", fields, err)
	}
	for i := 1; i < len(want); i++ {
		message(want[:i]).fields(func(int, uint64, []byte) {}) // must not panic
	}
}

func TestAnswer(t *testing.T) {
	var n, m message
	n.text(1, "pre-resume")
	n.number(2, 77)
	m.number(1, reqNotify)
	m.number(2, 1)
	m.bytes(5, n)
	var a answer
	if err := a.read(m); err != nil || a.kind != reqNotify || !a.success || a.script != "pre-resume" || a.pid != 77 {
		t.Errorf("read = %+v, %v", a, err)
	}
}

// A dump's description is hostile input: its words become options of criu (CHK-01).
func TestCHK01Description(t *testing.T) {
	for _, bad := range []string{
		`{`, `{"Version":2}`, `{"Version":1,"Mounts":[{"Place":"etc","Key":"m0"}]}`, `{"Version":1,"Mounts":[{"Place":"/a/../b","Key":"m0"}]}`,
		`{"Version":1,"Mounts":[{"Place":"/a","Key":"m1"}]}`, `{"Version":1,"Mounts":[{"Place":"/a\n","Key":"m0"}]}`,
		`{"Version":1,"Streams":[{"FD":3,"Key":"pipe:[1]"}]}`, `{"Version":1,"Streams":[{"FD":0,"Key":"hullnet"}]}`,
		`{"Version":1,"Streams":[{"FD":0,"Key":"pipe:[1"}]}`, `{"Version":1,"Streams":[{"FD":0,"Key":"file[../x]"}]}`,
	} {
		if d, err := decode([]byte(bad)); err == nil {
			t.Errorf("decode(%s) = %+v, want an error", bad, d)
		}
	}
	if _, err := decode([]byte(`{"Version":1,"Mounts":[{"Place":"/a b","Key":"m0"}],"Streams":[{"FD":1,"Key":"pipe:[12]"},{"FD":2,"Key":"file[a1:2f]"}]}`)); err != nil {
		t.Error(err)
	}
}

func FuzzDescription(f *testing.F) {
	f.Add([]byte(`{"Version":1,"Mounts":[{"Place":"/a","Key":"m0"}],"Streams":[{"FD":1,"Key":"pipe:[12]"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := decode(data)
		if err != nil {
			return
		}
		for _, m := range d.Mounts {
			if filepath.Clean(m.Place) != m.Place || strings.Contains(m.Key, "]") {
				t.Errorf("accepted %+v", m)
			}
		}
	})
}

func FuzzImages(f *testing.F) {
	f.Add(seccompImage([]byte("12345678"), 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		filters(data, func([]byte) bool { return true })
		var a answer
		a.read(data)
	})
}

// What a mount of the dump is made of comes from the request (CHK-01).
func TestCHK01Sources(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"real", "etc"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/real", filepath.Join(root, "conf")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../../../../etc", filepath.Join(root, "out")); err != nil {
		t.Fatal(err)
	}
	s := &Sources{Root: root, Dir: t.TempDir(), Groups: []string{"/sys/fs/cgroup/memory/hull/x"}, Spec: &oci.Spec{Linux: &oci.Linux{MaskedPaths: []string{"/proc/kcore"}}, Mounts: []oci.Mount{
		{Destination: "/conf", Source: "/src/conf", Type: "bind", Options: []string{"ro"}},
		{Destination: "/out", Source: "/src/out", Type: "bind"},
		{Destination: "/data", Source: "/src/data", Options: []string{"rbind"}},
		{Destination: "/data/inner", Source: "/src/inner", Type: "bind"},
		{Destination: "/sys/fs/cgroup", Type: "cgroup"},
		{Destination: "/run", Type: "tmpfs"},
	}}}
	s.masks = "/masks"
	places, err := s.places()
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]string{
		"/real": "/src/conf", "/etc": "/src/out", "/data": "/src/data", "/data/sub": "/src/data/sub", "/data/inner": "/src/inner",
		"/sys/fs/cgroup/memory": "/sys/fs/cgroup/memory/hull/x", "/proc/kcore": "/masks/file",
		"/": "", "/run": "", "/home": "", "/database": "", "/sys/fs/cgroup/a/b": "",
	} {
		got, _, err := s.source(at, places)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("source(%q) = %q, %v, want %q", at, got, err, want)
		}
	}
}

const goodStatus = "Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t\nCapInh:\t0\nCapPrm:\t0\nCapEff:\t0\nCapBnd:\t2\nCapAmb:\t0\nNoNewPrivs:\t1\nSeccomp:\t2\n"

// Credentials that came back are held against the request (CHK-03).
func TestCHK03Status(t *testing.T) {
	spec := &oci.Spec{Process: &oci.Process{NoNewPrivileges: true, User: oci.User{UID: 1000, GID: 1000}}, Linux: &oci.Linux{Seccomp: &oci.LinuxSeccomp{}}}
	a := &Allowed{Spec: spec, Capabilities: 2}
	if err := a.status(goodStatus); err != nil {
		t.Error(err)
	}
	for _, change := range [][2]string{{"CapEff:\t0", "CapEff:\t200000"}, {"CapBnd:\t2", "CapBnd:\t3"}, {"CapAmb:\t0", "CapAmb:\tx"}, {"NoNewPrivs:\t1", "NoNewPrivs:\t0"},
		{"Seccomp:\t2", "Seccomp:\t0"}, {"Uid:\t1000", "Uid:\t0"}, {"Groups:\t", "Groups:\t0"}, {"Gid:\t1000\t1000", "Gid:\t1000\t0"}} {
		if a.status(strings.Replace(goodStatus, change[0], change[1], 1)) == nil {
			t.Errorf("%s passes", change[1])
		}
	}
}

// Mounts that came back are held against the request (CHK-03).
func TestCHK03Mounts(t *testing.T) {
	spec := &oci.Spec{Root: &oci.Root{}, Process: &oci.Process{}, Linux: &oci.Linux{MaskedPaths: []string{"/proc/self"}}, Mounts: []oci.Mount{
		{Destination: "/proc", Type: "proc", Options: []string{"nosuid"}}, {Destination: "/data", Type: "bind"}}}
	good := "1 0 0:1 / / rw - overlay o rw\n2 1 0:2 / /proc rw,nosuid - proc proc rw\n3 2 0:3 /f /proc/self ro - tmpfs t rw\n4 1 0:4 / /data/x rw - ext4 d rw\n"
	a := &Allowed{Spec: spec}
	if err := a.mounts(parseMountLines(good)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{
		strings.Replace(good, "/proc/self ro", "/proc/self rw", 1),
		strings.Replace(good, "rw,nosuid", "rw", 1),
		good + "5 1 0:5 / /proc2 rw - proc proc rw\n",
		good + "5 2 0:2 / /proc/self rw - proc proc rw\n",
	} {
		if a.mounts(parseMountLines(bad)) == nil {
			t.Errorf("passes:\n%s", bad)
		}
	}
	a.Capabilities = sysAdmin // it could mount that itself
	if err := a.mounts(parseMountLines(good + "5 1 0:5 / /tmp/m rw - tmpfs t rw\n")); err != nil {
		t.Error(err)
	}
}

// seccompImage is criu's image of one filter, with another above it when prev is not 0.
func seccompImage(filter []byte, prev uint64) []byte {
	var f, m message
	f.bytes(1, filter)
	if prev > 0 {
		f.number(2, prev)
	}
	m.bytes(1, f)
	out := binary.LittleEndian.AppendUint32(nil, imageMagic)
	out = binary.LittleEndian.AppendUint32(out, seccompMagic)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(m))), m...)
}

func TestCHK03Filters(t *testing.T) {
	own := []unix.SockFilter{{Code: 6, K: 0x7fff0000}}
	var raw bytes.Buffer
	binary.Write(&raw, binary.NativeEndian, own[0])
	for name, c := range map[string]struct {
		image []byte
		ok    bool
	}{
		"same":    {seccompImage(raw.Bytes(), 0), true},
		"other":   {seccompImage([]byte("12345678"), 0), false},
		"none":    {seccompImage(nil, 0)[:12], false},
		"chained": {seccompImage(raw.Bytes(), 1), false},
		"garbage": {[]byte("x"), false},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "seccomp.img"), c.image, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := VerifyFilters(dir, own); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if VerifyFilters(t.TempDir(), own) == nil {
		t.Error("a dump without filters passes")
	}
}

func TestFirstError(t *testing.T) {
	log := "Error (criu/tun.c:85): tun: Unable to create tun: x\nWarn  (criu/x.c:1): y\n(00.1) Error (criu/files.c:9): Can't open /a\nError (criu/cr-restore.c:1): Restoring FAILED.\n"
	if got := firstError(log); got != "Can't open /a" {
		t.Errorf("firstError = %q", got)
	}
}

// A program that cannot even begin is quoted: its log is not there.
func TestCannotBegin(t *testing.T) {
	w := &work{o: Options{Work: t.TempDir(), Log: "dump.log"}}
	w.said.WriteString("a warning\ncriu: error while loading shared libraries: libnet.so.9: no such file\n")
	if err := w.explain("dump", os.ErrClosed); !strings.Contains(err.Error(), "libnet.so.9") || strings.Contains(err.Error(), "warning") {
		t.Errorf("said %v", err)
	}
}
