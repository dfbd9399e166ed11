package build_test

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hull/blob"
	"hull/codec"
	"hull/image"
	"hull/snapshot"
)

// busyboxTar is a root file system of busybox: directories, its links, users.
func busyboxTar(t *testing.T) []byte {
	t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	list, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(h tar.Header, data []byte) {
		h.Size, h.ModTime = int64(len(data)), time.Unix(0, 0)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "dev", "etc", "home", "opt", "proc", "root", "run", "sys", "usr", "usr/bin", "usr/lib", "var"} {
		put(tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o755}, nil)
	}
	for _, d := range []string{"tmp", "var/tmp"} {
		put(tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o1777}, nil)
	}
	put(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, program)
	for _, name := range strings.Fields(string(list)) {
		if name != "busybox" {
			put(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	put(tar.Header{Typeflag: tar.TypeSymlink, Name: "lib", Linkname: "usr/lib", Mode: 0o777}, nil)
	put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/sh\nann:x:1000:100:ann:/home/ann:/bin/sh\n"))
	put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\ndaemon:x:1:\nusers:x:100:\nstaff:x:50:ann\n"))
	for _, f := range []string{"etc/hosts", "etc/resolv.conf", "etc/hostname"} {
		put(tar.Header{Typeflag: tar.TypeReg, Name: f, Mode: 0o644}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// statText is a file in one line: mode, owner, and what it holds.
func statText(t *testing.T, dir *os.File, name string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%04o %d:%d", st.Mode&0o7777, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return text + " /"
	case unix.S_IFLNK:
		buf := make([]byte, 4096)
		n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
		if err != nil {
			t.Fatal(err)
		}
		return text + " -> " + string(buf[:n])
	case unix.S_IFREG:
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), name)
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, 1<<16))
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 60 {
			return text + fmt.Sprintf(" %d bytes", st.Size)
		}
		return text + fmt.Sprintf(" %q", data)
	}
	return text + " special"
}

type hull struct {
	hull []string
	root string

	verdicts map[string]int // of the corpus, by a peer
}

var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "hull-build-test-")
	if err != nil {
		return "", err
	}
	for to, pkg := range map[string]string{"hull": "hull", "libexec/hull/hull-monitor": "hull-monitor", "libexec/hull/hull-full": "hull-full", "libexec/hull/hull-net": "hull-net"} {
		c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, to), "hull/cmd/"+pkg)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("build %s: %v\n%s", pkg, err, out)
		}
	}
	return dir, exec.Command("chmod", "-R", "a+rX", dir).Run()
})

var built bool

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if built {
		if dir, _ := buildOnce(); dir != "" {
			os.RemoveAll(dir)
		}
	}
	os.Exit(code)
}

// newHull is a store with the base image of the corpus: busybox.
func newHull(t *testing.T) *hull {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts and namespaces")
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs Debian's busybox-static")
	}
	built = true
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	h := &hull{root: filepath.Join(dir, "root"), verdicts: map[string]int{}}
	h.hull = []string{filepath.Join(bin, "hull"), "--root", h.root, "--runroot", filepath.Join(dir, "run")}
	t.Cleanup(func() {
		if out, err := exec.Command(h.hull[0], append(slices.Clone(h.hull[1:]), "ps", "-aq")...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("containers are left: %v %s", err, out)
		}
	})
	base := filepath.Join(dir, "base.tar")
	if err := os.WriteFile(base, busyboxTar(t), 0o644); err != nil {
		t.Fatal(err)
	}
	commands := [][]string{h.hull}
	if *peer != "" {
		commands = append(commands, strings.Fields(*peer))
	}
	for _, c := range commands {
		args := append(slices.Clone(c[1:]), "import", "-c", "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "-c", `CMD ["sh"]`, base, "localhost/base:1")
		if out, err := exec.Command(c[0], args...).CombinedOutput(); err != nil {
			t.Fatalf("import: %v\n%s", err, out)
		}
	}
	return h
}

func (h *hull) stores(t *testing.T) (*image.Store, *snapshot.Store) {
	t.Helper()
	blobs, err := blob.Open(h.root)
	if err != nil {
		t.Fatal(err)
	}
	snaps, err := snapshot.Open(filepath.Join(h.root, "snapshots"), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	images, err := image.Open(h.root, blobs, snaps)
	if err != nil {
		t.Fatal(err)
	}
	images.Codec = codec.Codec{}
	return images, snaps
}
