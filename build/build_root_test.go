package build_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// write makes files below a new directory.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// do runs hull and returns its output.
func (h *hull) do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := h.try(args...)
	if err != nil {
		t.Fatalf("hull %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (h *hull) try(args ...string) (string, error) {
	c := exec.Command(h.hull[0], append(slices.Clone(h.hull[1:]), args...)...)
	out, err := c.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

const reproducible = `FROM localhost/base:1 AS a
WORKDIR /w
COPY . /ctx
RUN echo hi > /etc/x && ln /etc/x /etc/y && chown 5:6 /etc/y && mkdir -p /a/b && chmod 700 /a && rm -rf /usr/lib && mkdir /usr/lib
RUN --mount=type=cache,target=/var/cache/q --mount=type=tmpfs,target=/t touch /var/cache/q/1 && cp /bin/busybox /bb
USER ann
RUN touch /tmp/u
FROM a
USER 0
COPY --from=a --chown=3:4 /etc/x /from
RUN rm /etc/y && head -c 3000 /dev/zero > /zeros
ENV A=1
CMD ["x"]
`

// TestSameDigest builds the same at different times and places, with another
// umask and order of files, cached and not, as root and as a user: the image is
// the same to the last byte.
func TestSameDigest(t *testing.T) {
	h := newHull(t)
	archive := filepath.Join(t.TempDir(), "base.tar")
	h.do(t, "save", "-q", "--format", "oci-archive", "-o", archive, "localhost/base:1")
	h.do(t, "rmi", "localhost/base:1")
	h.do(t, "load", "-q", "-i", archive) // so that both have one manifest of it, which the image names
	files := map[string]string{"Containerfile": reproducible}
	for i := range 20 {
		files[fmt.Sprintf("d/f%d", i)] = strings.Repeat("x", i)
	}
	stores := []*hull{h, h.asUser(t, archive)}
	digests := map[string]int{}
	for i := range 20 {
		s := stores[i%2]
		if s == nil {
			continue
		}
		dir := write(t, files) // maps are ranged over in another order each time
		makeReadable(t, dir)
		args := []string{"build", "-q", "--timestamp", "1000000000"}
		if i%4 < 2 {
			args = append(args, "--no-cache")
		}
		old := syscall.Umask([]int{0o22, 0o77, 0o2}[i%3])
		id := s.do(t, append(args, dir)...)
		syscall.Umask(old)
		digests[id+" "+s.do(t, "image", "inspect", "--format", "{{.Digest}}", id)]++
	}
	if len(digests) != 1 {
		t.Errorf("different images: %v", digests)
	}
}

// makeReadable lets a user read a directory of the test's.
func makeReadable(t *testing.T, dir string) {
	t.Helper()
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil && filepath.Dir(d) != "/" {
			t.Fatal(err)
		}
		if filepath.Dir(d) == os.TempDir() {
			break
		}
	}
}

// asUser is a store of the test user's own; nil without one.
func (h *hull) asUser(t *testing.T, archive string) *hull {
	t.Helper()
	u, err := user.Lookup("hulltest")
	if err != nil {
		return nil
	}
	dir, err := os.MkdirTemp("", "hull-build-user-")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	makeReadable(t, filepath.Dir(archive))
	n := &hull{root: filepath.Join(dir, "root")}
	n.hull = []string{"/usr/sbin/runuser", "-u", "hulltest", "--", "env", "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, h.hull[0], "--root", n.root, "--runroot", filepath.Join(dir, "run")}
	t.Cleanup(func() {
		_, _ = n.try("system", "migrate") // ends the holder of the user's namespace
		if out, err := exec.Command("rm", "-rf", "--one-file-system", dir).CombinedOutput(); err != nil {
			t.Logf("clean up: %v %s", err, out)
		}
	})
	n.do(t, "load", "-q", "-i", archive)
	return n
}

// nothingLeft looks for mounts and directories of builds.
func (h *hull) nothingLeft(t *testing.T) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), h.root) {
		t.Errorf("mounts are left below %s", h.root)
	}
	for _, d := range []string{filepath.Join(h.root, "build", "tmp"), filepath.Join(filepath.Dir(h.root), "run", "build")} {
		entries, err := os.ReadDir(d)
		if err == nil && len(entries) > 0 {
			t.Errorf("%s holds %v", d, entries)
		}
	}
}

// TestSECR01SecretNowhere looks for a secret's bytes in everything that a
// build leaves, with tracing on.
func TestSECR01SecretNowhere(t *testing.T) {
	h := newHull(t)
	const canary = "canary-d41d8cd98f00b204"
	t.Setenv("BUILD_SECRET", canary+"-env")
	dir := write(t, map[string]string{"Containerfile": `FROM localhost/base:1
RUN --mount=type=secret,id=file,target=/etc/deep/secret test "$(wc -c < /etc/deep/secret)" = 28 && echo ok > /ok
RUN --mount=type=secret,id=env,env=TOKEN test -n "$TOKEN" && echo ok > /ok2
RUN test ! -e /etc/deep
`})
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(canary+"-file"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := h.do(t, "--log-level=trace", "build", "-t", "x:1", "--secret", "id=file,src="+key, "--secret", "id=env,env=BUILD_SECRET", dir)
	out += h.do(t, "history", "--no-trunc", "x:1") + h.do(t, "inspect", "x:1") + h.do(t, "events", "--stream=false", "--since", "1h")
	if strings.Contains(out, canary) {
		t.Errorf("the secret is in the output:\n%s", out)
	}
	grep(t, filepath.Dir(h.root), canary)
}

// grep finds text in any file below dir.
func grep(t *testing.T, dir, text string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(p)
		if err == nil && bytes.Contains(data, []byte(text)) {
			t.Errorf("%s holds it", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBLD06EnvironmentOfTheEngine: RUN has the image's variables, not ours.
func TestBLD06EnvironmentOfTheEngine(t *testing.T) {
	h := newHull(t)
	t.Setenv("ENGINE_CANARY", "canary-6f1ed002")
	dir := write(t, map[string]string{"Containerfile": "FROM localhost/base:1\nRUN cat /proc/*/environ | tr '\\0' '\\n' > /env\n"})
	if out := h.do(t, "build", "-q", "-o", filepath.Join(dir, "out"), dir); strings.Contains(out, "canary") {
		t.Error(out)
	}
	grep(t, filepath.Join(dir, "out"), "canary-6f1ed002")
	grep(t, h.root, "canary-6f1ed002")
}

// TestBLD11ContextUnchanged: nothing that RUN writes to a mount of the context
// arrives there.
func TestBLD11ContextUnchanged(t *testing.T) {
	h := newHull(t)
	dir := write(t, map[string]string{"d/f": "old", "l": "x", "Containerfile": `FROM localhost/base:1
RUN --mount=target=/m,rw echo new > /m/d/f && rm /m/l && mkdir /m/x && chmod 700 /m/d
RUN --mount=source=d/f,target=/one,rw echo new > /one
RUN --mount=target=/m cat /m/d/f /m/l && ! touch /m/y
`})
	odd := filepath.Join(t.TempDir(), `a:b,c\d e`)
	if err := os.Rename(dir, odd); err != nil {
		t.Fatal(err)
	}
	dir = odd // an overlay's options end at some of these
	before := listing(t, dir)
	h.do(t, "build", "-q", dir)
	if after := listing(t, dir); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&b, p, info.Mode(), info.ModTime().UnixNano())
		}
		if err == nil && d.Type().IsRegular() {
			data, _ := os.ReadFile(p)
			fmt.Fprintf(&b, "%q\n", data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestBLD03Repository: a repository's links and submodules do not lead out of it.
func TestBLD03Repository(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	h := newHull(t)
	host := write(t, map[string]string{"secret": "canary-0b5a"})
	repo := write(t, map[string]string{"Containerfile": "FROM localhost/base:1\nCOPY link /got\n", "sub/Containerfile": "FROM localhost/base:1\nCOPY f /got\n", "sub/f": "in sub"})
	if err := os.Symlink(filepath.Join(host, "secret"), filepath.Join(repo, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(host, "secret"), filepath.Join(repo, "Evil")); err != nil {
		t.Fatal(err)
	}
	bare := filepath.Join(t.TempDir(), "r.git")
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "x"}, {"clone", "-q", "--bare", ".", bare}} {
		c := exec.Command("git", args...)
		c.Dir = repo
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	url := "file://" + bare
	if out := h.do(t, "build", "-q", url+"#main:sub"); len(out) != 64 {
		t.Errorf("subdirectory of a branch: %s", out)
	}
	for _, bad := range [][]string{{url}, {"-f", "Evil", url}, {url + "#--upload-pack=x"}, {url + "#main$(x)"}, {"ext::sh -c true.git"}} {
		out, err := h.try(append([]string{"build", "-q"}, bad...)...)
		if err == nil {
			t.Errorf("build %v: no error", bad)
		}
		if strings.Contains(out, "canary") || strings.Contains(out, h.root) {
			t.Errorf("build %v shows the host: %s", bad, out)
		}
	}
	grep(t, h.root, "canary-0b5a")
}

// TestBLD13Policy: what a Containerfile asks for beyond a plain container needs
// the caller's word, in whatever form it asks.
func TestBLD13Policy(t *testing.T) {
	h := newHull(t)
	for i, x := range []struct{ run, allow string }{
		{"--security=insecure true", "security.insecure"},
		{"--network=host true", "network.host"},
		{"--device=/dev/null true", "device"},
	} {
		options := strings.TrimSuffix(x.run, "true")
		h.do(t, "build", "-q", "-t", "localhost/trigger:1", write(t, map[string]string{"Containerfile": "FROM localhost/base:1\nONBUILD RUN " + x.run + "\n"}))
		for name, file := range map[string]string{
			"shell": "FROM localhost/base:1\nRUN " + x.run + "\n", "exec": "FROM localhost/base:1\nRUN " + options + "[\"true\"]\n",
			"here-document": "FROM localhost/base:1\nRUN " + options + "<<E\ntrue\nE\n", "script": "FROM localhost/base:1\nRUN " + options + "<<E\n#!/bin/sh\ntrue\nE\n",
			"trigger": "FROM localhost/trigger:1\nRUN true\n", "trigger of a stage": "FROM localhost/base:1 AS a\nONBUILD RUN " + x.run + "\nFROM a\nRUN true\n",
			"stage below": "FROM localhost/base:1 AS a\nRUN " + x.run + "\nFROM a\nRUN true\n", "stage copied from": "FROM localhost/base:1 AS a\nRUN " + x.run + "\nFROM scratch\nCOPY --from=a /etc /etc\n",
			"variable": "FROM localhost/base:1\nARG O\nRUN " + options + "echo $O\n",
		} {
			if i > 0 && !full() && name != "shell" && name != "trigger" {
				continue
			}
			dir := write(t, map[string]string{"Containerfile": file})
			// Another word's leave is none.
			for _, args := range [][]string{{}, {"--allow", map[bool]string{true: "device", false: "network.host"}[x.allow == "network.host"]}} {
				if out, err := h.try(append(append([]string{"build", "-q", "--no-cache"}, args...), dir)...); err == nil || !strings.Contains(out, "--allow "+x.allow) {
					t.Errorf("%s, RUN %s, %v: %v %s", name, x.run, args, err, out)
				}
			}
			h.do(t, "build", "-q", "--allow", x.allow, dir)
			// What was done with leave is kept, and is still not to be had without.
			if out, err := h.try("build", "-q", dir); err == nil {
				t.Errorf("%s, RUN %s, once it is kept: %s", name, x.run, out)
			}
		}
	}
}

// TestDiskFull: a build that finds no room says so, keeps no part of a step,
// and goes through once there is room. Nor does an unreachable registry leave
// anything.
func TestDiskFull(t *testing.T) {
	h := newHull(t)
	archive := filepath.Join(t.TempDir(), "base.tar")
	h.do(t, "save", "-q", "-o", archive, "localhost/base:1")
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("something is mounted below the store: %v", err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	small := &hull{root: filepath.Join(dir, "root")}
	small.hull = []string{h.hull[0], "--root", small.root, "--runroot", filepath.Join(dir, "run")}
	small.do(t, "load", "-q", "-i", archive)
	context := write(t, map[string]string{"f": "x", "Containerfile": "FROM localhost/base:1\nCOPY f /f\nRUN head -c 30000000 /dev/zero > /zeros\n", "Copied": "FROM localhost/base:1\nCOPY big /big\n"})
	if err := os.WriteFile(filepath.Join(context, "big"), bytes.Repeat([]byte("0123456789abcdef"), 2<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{}, {"-f", "Copied"}} {
		c := exec.Command(small.hull[0], append(append(slices.Clone(small.hull[1:]), "build", "-q"), append(args, ".")...)...)
		c.Dir = context
		out, err := c.CombinedOutput()
		// A program sees what the file system makes of it, with this one EIO.
		if text := strings.ToLower(string(out)); err == nil || !strings.Contains(text, "no space left on device") && !strings.Contains(text, "i/o error") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if out, err := small.try("build", "-q", "--from", "127.0.0.1:1/none:1", context); err == nil || !strings.Contains(out, "connection refused") {
		t.Errorf("unreachable registry: %v\n%s", err, out)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=200m"); err != nil {
		t.Fatal(err)
	}
	id := small.do(t, "build", "-q", context)
	if out := small.do(t, "run", "--rm", "--network", "none", id, "sh", "-c", "wc -c < /zeros; cat /f"); out != "30000000\nx" {
		t.Errorf("the image has %q", out)
	}
	small.do(t, "build", "-q", "-f", filepath.Join(context, "Copied"), context)
	small.nothingLeft(t)
}
