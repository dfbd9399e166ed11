package engine

import (
	"archive/tar"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testArchive writes entries, and behind them a code by key.
func testArchive(t testing.TB, key []byte, entries ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	a := &archiver{tar.NewWriter(&b), hmac.New(sha256.New, key)}
	for _, h := range entries {
		h.Size = 0
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Typeflag, h.Size = tar.TypeReg, 4
		}
		if err := a.t.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		note(a.mac, strings.TrimPrefix(h.Name, "./"), h.Size)
		if h.Size > 0 {
			io.WriteString(io.MultiWriter(a.t, a.mac), "data")
		}
	}
	code := hex.EncodeToString(a.mac.Sum(nil))
	if err := a.add(archiveMAC, int64(len(code)), strings.NewReader(code)); err != nil {
		t.Fatal(err)
	}
	if err := a.t.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpackDir(t testing.TB) string {
	dir := t.TempDir()
	for _, d := range []string{"checkpoint", "volumes"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var testCheckpointKey = []byte("0123456789abcdef0123456789abcdef")

// Nothing of an archive leads out of the directory that it is unpacked to, and none of another store, or one that was changed, is
// taken for our own (CHK-01).
func TestCHK01Archive(t *testing.T) {
	good := testArchive(t, testCheckpointKey, &tar.Header{Name: "checkpoint/core-1.img"}, &tar.Header{Name: "options.json"}, &tar.Header{Name: "volumes/v.tar"}, &tar.Header{Name: "network.status"})
	dir := unpackDir(t)
	if ours, err := readCheckpoint(bytes.NewReader(good), testCheckpointKey, dir); err != nil || !ours {
		t.Fatalf("our own: %v, %v", ours, err)
	}
	for _, f := range []string{"checkpoint/core-1.img", "options.json", "volumes/v.tar", "checkpoint/network.status"} {
		if data, err := os.ReadFile(filepath.Join(dir, f)); err != nil || string(data) != "data" {
			t.Errorf("%s: %q, %v", f, data, err)
		}
	}
	if ours, err := readCheckpoint(bytes.NewReader(good), []byte("another"), ""); err != nil || ours {
		t.Errorf("of another store: %v, %v", ours, err)
	}
	changed := bytes.Replace(good, []byte("data"), []byte("dat4"), 1)
	if ours, err := readCheckpoint(bytes.NewReader(changed), testCheckpointKey, ""); err != nil || ours {
		t.Errorf("changed: %v, %v", ours, err)
	}
	for _, h := range []*tar.Header{
		{Name: "../x"}, {Name: "/etc/passwd"}, {Name: "checkpoint/../../x"}, {Name: "checkpoint/a/b"}, {Name: "checkpoint/.."}, {Name: "checkpoint/parent"},
		{Name: "volumes/../x.tar"}, {Name: "volumes/x"}, {Name: "volumes/.tar"}, {Name: "hull.json"}, {Name: "checkpoint.key"}, {Name: "checkpoint/network.status"},
		{Name: "checkpoint/x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, {Name: "checkpoint/x", Typeflag: tar.TypeLink, Linkname: "options.json"},
		{Name: "checkpoint/x", Typeflag: tar.TypeFifo}, {Name: "checkpoint/x", Typeflag: tar.TypeBlock},
	} {
		dir := unpackDir(t)
		if _, err := readCheckpoint(bytes.NewReader(testArchive(t, testCheckpointKey, h)), testCheckpointKey, dir); err == nil {
			t.Errorf("%s (type %c) passes", h.Name, h.Typeflag)
		}
	}
	twice := testArchive(t, testCheckpointKey, &tar.Header{Name: "options.json"}, &tar.Header{Name: "options.json"})
	if _, err := readCheckpoint(bytes.NewReader(twice), testCheckpointKey, unpackDir(t)); err == nil {
		t.Error("one name twice passes")
	}
	var more bytes.Buffer
	w := tar.NewWriter(&more)
	for _, name := range []string{archiveMAC, "options.json"} {
		w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg})
	}
	w.Close()
	if _, err := readCheckpoint(&more, testCheckpointKey, ""); err == nil {
		t.Error("entries behind the code pass")
	}
}

func FuzzCheckpointArchive(f *testing.F) {
	f.Add(testArchive(f, testCheckpointKey, &tar.Header{Name: "checkpoint/core-1.img"}, &tar.Header{Name: "options.json"}))
	f.Add(testArchive(f, testCheckpointKey, &tar.Header{Name: "checkpoint/../x"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "d")
		for _, d := range []string{"", "checkpoint", "volumes"} {
			if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		readCheckpoint(bytes.NewReader(data), testCheckpointKey, dir)
		if left, _ := os.ReadDir(outer); len(left) != 1 {
			t.Errorf("it left %v", left)
		}
		filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !d.Type().IsRegular() {
				t.Errorf("%s is %v", path, d.Type())
			}
			return nil
		})
	})
}

// An archive from elsewhere that is trusted gets nothing of the host all the same (CHK-01).
func TestCHK01Harmless(t *testing.T) {
	fine := CreateOptions{Image: "i", Command: []string{"a"}, Env: []string{"A=1"}, Terminal: true, CapDrop: []string{"all"}, PidNS: "private",
		Mounts: []Mount{{Type: "volume", Source: "v", Destination: "/v"}, {Type: "tmpfs", Destination: "/t"}}}
	if err := harmless(&fine); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*CreateOptions){
		"privileged": func(o *CreateOptions) { o.Privileged = true },
		"capability": func(o *CreateOptions) { o.CapAdd = []string{"SYS_ADMIN"} },
		"seccomp":    func(o *CreateOptions) { o.SecurityOpt = []string{"seccomp=unconfined"} },
		"device":     func(o *CreateOptions) { o.Devices = []Device{{}} },
		"bind":       func(o *CreateOptions) { o.Mounts = []Mount{{Type: "bind", Source: "/", Destination: "/h"}} },
		"overlay": func(o *CreateOptions) {
			o.Mounts = []Mount{{Type: "volume", Source: "v", Destination: "/h", Options: []string{"upperdir=/etc"}}}
		},
		"driver": func(o *CreateOptions) {
			o.Mounts = []Mount{{Type: "volume", Source: "v", Destination: "/h", VolumeOptions: map[string]string{"device": "/"}}}
		},
		"pid":     func(o *CreateOptions) { o.PidNS = "host" },
		"network": func(o *CreateOptions) { o.NetworkMode = "ns:/proc/1/ns/net" },
		"rootfs":  func(o *CreateOptions) { o.Rootfs = "/" },
		"secret":  func(o *CreateOptions) { o.Secrets = []Secret{{}} },
		"log":     func(o *CreateOptions) { o.LogOpts = []string{"path=/etc/x"} },
		"group":   func(o *CreateOptions) { o.CgroupParent = "/" },
		"sysctl":  func(o *CreateOptions) { o.Sysctls = []string{"a=b"} },
	} {
		o := fine
		change(&o)
		if harmless(&o) == nil {
			t.Errorf("%s passes", name)
		}
	}
}
