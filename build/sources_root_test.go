package build_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hull/image"
	"hull/oci"
)

// TestBLD04HistoryIsNoCache: an image that says of itself what a build would have
// done is no cache, neither by its history nor by the steps that its configuration
// tells of; only --cache-from makes those count.
func TestBLD04HistoryIsNoCache(t *testing.T) {
	h := newHull(t)
	good := write(t, map[string]string{"f": "x", "Containerfile": "FROM localhost/base:1\nCOPY f /f\nRUN echo good > /made\nENV A=1\n"})
	honest := h.do(t, "build", "-q", "-t", "honest:1", "--timestamp", "0", "--cache-to", "type=inline", good)
	// The liar has the honest image's configuration, and another layer in the place of the last one.
	evil := write(t, map[string]string{"f": "x", "Containerfile": "FROM localhost/base:1\nCOPY f /f\nRUN echo evil > /made\n"})
	h.do(t, "build", "-q", "-t", "evil:1", "--timestamp", "0", evil)
	images, _ := h.stores(t)
	ctx := context.Background()
	model, err := images.Resolve(ctx, honest)
	if err != nil {
		t.Fatal(err)
	}
	other, err := images.Resolve(ctx, "evil:1")
	if err != nil {
		t.Fatal(err)
	}
	if len(model.Config.BuildCache) == 0 || len(model.Layers) != len(other.Layers) {
		t.Fatalf("%d layers, %d; steps: %s", len(model.Layers), len(other.Layers), model.Config.BuildCache)
	}
	config := model.Config
	config.RootFS = oci.RootFS{}
	name, err := oci.ParseReference("localhost/liar:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := images.Create(ctx, config, other.Layers, image.CreateOptions{Names: []oci.Reference{name}}); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "liar.tar")
	h.do(t, "save", "-q", "--format", "oci-archive", "-o", archive, "localhost/liar:1")
	h.do(t, "rmi", "-f", "honest:1", "evil:1", "localhost/liar:1")
	h.do(t, "builder", "prune", "-af")
	h.do(t, "load", "-q", "-i", archive)
	if out := h.do(t, "run", "--rm", "localhost/liar:1", "cat", "/made"); out != "evil" {
		t.Fatalf("the liar has %q", out)
	}
	out := h.do(t, "build", "-t", "victim:1", "--timestamp", "0", good)
	if strings.Contains(out, "Using cache") {
		t.Errorf("a step is taken from the image:\n%s", out)
	}
	if made := h.do(t, "run", "--rm", "victim:1", "cat", "/made"); made != "good" {
		t.Errorf("the image has %q", made)
	}
	// Nor does a name that happens to be the base of the build change that.
	h.do(t, "builder", "prune", "-af")
	h.do(t, "tag", "localhost/liar:1", "victim:1")
	h.do(t, "build", "-q", "-t", "victim:1", "--timestamp", "0", good)
	if made := h.do(t, "run", "--rm", "victim:1", "cat", "/made"); made != "good" {
		t.Errorf("the image has %q", made)
	}
}

// TestBLD05ParallelBuilds: two builds at once, each of stages side by side that
// share layers and caches. HULL_RACES=full does it a thousand times, under the
// race detector, for which gcc is needed.
func TestBLD05ParallelBuilds(t *testing.T) {
	h := newHull(t)
	rounds := 4
	if full() {
		rounds = 1000
		h.underRaceDetector(t)
	}
	file := "FROM localhost/base:1 AS a\nCOPY round /round\nRUN --mount=type=cache,target=/cache cp /round /made && touch /cache/a\n"
	for _, s := range []string{"b", "c", "d"} {
		file += "FROM a AS " + s + "\nRUN --mount=type=cache,target=/cache --mount=from=a,target=/m cp /m/made /" + s + "\nCOPY --link round /linked\n"
	}
	file += "FROM a\nRUN --mount=type=tmpfs,target=/t true\nCOPY --from=b /b /\nCOPY --from=c /c /\nCOPY --from=d /d /linked /\n"
	for round := range rounds {
		dir := write(t, map[string]string{"round": fmt.Sprint(round), "Containerfile": file})
		var ids [2]string
		var group sync.WaitGroup
		for i := range ids {
			group.Go(func() {
				out, err := h.try("build", "-q", "--jobs=4", "--timestamp", "0", dir)
				if ids[i] = out; err != nil {
					t.Errorf("round %d: %v\n%s", round, err, out)
				}
			})
		}
		group.Wait()
		if t.Failed() || ids[0] != ids[1] || len(ids[0]) != 64 {
			t.Fatalf("round %d: images %q", round, ids)
		}
		if round%50 == 0 {
			if out := h.do(t, "run", "--rm", "--network", "none", ids[0], "cat", "/b", "/c", "/d", "/linked"); out != strings.Repeat(fmt.Sprint(round), 4) {
				t.Fatalf("round %d: the image has %q", round, out)
			}
			h.do(t, "system", "check")
		}
		h.do(t, "rmi", "-f", ids[0])
		if os.RemoveAll(dir); round%20 == 19 {
			h.do(t, "builder", "prune", "-af")
		}
	}
	t.Logf("%d rounds of two builds", rounds)
	h.nothingLeft(t)
}

// underRaceDetector has h run programs that are built with it: what they find
// ends them with status 66.
func (h *hull) underRaceDetector(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "hull-build-race-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if out, err := exec.Command("cp", "-a", filepath.Dir(h.hull[0])+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	c := exec.Command("go", "build", "-race", "-o", filepath.Join(dir, "libexec/hull/hull-full"), "hull/cmd/hull-full")
	c.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build with -race: %v\n%s", err, out)
	}
	h.hull[0] = filepath.Join(dir, "hull")
	t.Setenv("GORACE", "halt_on_error=1 exitcode=66")
}

// TestBLD14NoFrontends: a Containerfile cannot name a program that reads it, and
// ids that name files of the build are no paths.
func TestBLD14NoFrontends(t *testing.T) {
	h := newHull(t)
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.NotFound(w, nil)
	}))
	defer server.Close()
	evil := strings.TrimPrefix(server.URL, "http://") + "/evil:1"
	for _, head := range []string{"# syntax=" + evil, "#syntax = " + evil, "// syntax=" + evil, `{"syntax": "` + evil + `"}`, "#!/usr/bin/env x\n# syntax=" + evil} {
		// Some of these are no comment, and so an error; no form of them is followed.
		_, _ = h.try("build", "-q", write(t, map[string]string{"Containerfile": head + "\nFROM localhost/base:1\nRUN true\n"}))
	}
	h.do(t, "build", "-q", write(t, map[string]string{"Containerfile": "# syntax=" + evil + "\nFROM localhost/base:1\nRUN true\n"}))
	_, _ = h.try("build", "-q", "--build-arg", "BUILDKIT_SYNTAX="+evil, write(t, map[string]string{"Containerfile": "FROM localhost/base:1\nRUN true\n"}))
	if n := asked.Load(); n > 0 {
		t.Errorf("the frontend was asked for %d times", n)
	}
	host, check := hostCanary(t, "canary-4be1")
	key := filepath.Join(host, "canary")
	for _, line := range []string{
		"RUN --mount=type=secret,id=../../../../../.." + host + "/sub/new cat /run/secrets/* > /dev/null; true",
		"RUN --mount=type=secret,id=" + host + "/new true",
		"RUN --mount=type=secret,id=.. true",
		"RUN --mount=type=ssh,id=../../../../.." + host + "/agent true",
		"RUN --mount=type=cache,id=../../../../.." + host + "/new,target=/c touch /c/x",
		"RUN <<../../../../../.." + host + "/doc\n#!/bin/sh\ntrue\n../../../../../.." + host + "/doc",
		"COPY <<" + host + "/doc /x\ntext\n" + host + "/doc",
		"COPY <<../../../.." + host + "/doc /x/\ntext\n../../../.." + host + "/doc",
	} {
		dir := write(t, map[string]string{"Containerfile": "FROM localhost/base:1\n" + line + "\n"})
		args := []string{"build", "-q"}
		for _, id := range []string{"../../../../../.." + host + "/sub/new", host + "/new", ".."} {
			args = append(args, "--secret", "id="+id+",src="+key)
		}
		_, _ = h.try(append(args, dir)...) // the files are what counts
		check()
		h.nothingLeft(t)
	}
}

// hostile is an archive whose links lead to a directory of the host, and whose
// names climb.
func hostile(t *testing.T, host string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeSymlink, Name: "abs", Linkname: host}, {Typeflag: tar.TypeReg, Name: "abs/canary", Size: 5},
		{Typeflag: tar.TypeSymlink, Name: "up", Linkname: "../../../../../../.." + host}, {Typeflag: tar.TypeReg, Name: "up/sub/canary", Size: 5},
		{Typeflag: tar.TypeReg, Name: "../../../../../../.." + host + "/new", Size: 5}, {Typeflag: tar.TypeReg, Name: host + "/new", Size: 5},
		{Typeflag: tar.TypeLink, Name: "hard", Linkname: "../../../../../../.." + host + "/canary"}, {Typeflag: tar.TypeSymlink, Name: "root", Linkname: "/"},
	} {
		h.Mode = 0o777
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			fmt.Fprint(w, "owned")
		}
		if h.Typeflag == tar.TypeLink { // an archive that is refused for its hard link ends with it
			break
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// hostileLines are instructions that copy or remove by paths of all kinds.
func hostileLines(host string) []string {
	var lines []string
	for _, word := range []string{"COPY", "ADD"} {
		for _, x := range []string{`["", "/x"]`, `["f", ""]`, `["", ""]`, ". .", ". /", "/ /", "* /", "*/* /", "f* .", "f /out", "f /out/", "d /out", ". /out/", "d/. /out/sub", "out/* /", "out /x", "up/canary /x", "root /x",
			"root" + host + "/canary /x", "../../../../.." + host + "/canary /x", "/.. /x", `["[a-z]*", "/out/"]`, "f /out/../../../../../.." + host + "/new", "evil.tar /", "evil.tar /out/", "--parents out/./canary /", "--link d /out", "--chown=ann d /out", "--from=links / /out/", "--from=links /out /x"} {
			if word == "ADD" && (strings.Contains(x, "--from") || strings.Contains(x, "--parents") || !full() && !strings.Contains(x, "out") && !strings.Contains(x, "tar")) {
				continue
			}
			lines = append(lines, word+" "+x)
		}
	}
	lines = append(lines, `WORKDIR ""`, "WORKDIR /out/sub/new", "WORKDIR /..", "RUN rm -rf /out/* /* /.* || true", "VOLUME /out", "RUN --mount=target=/out,rw rm -rf /out/* || true",
		"RUN --mount=target=/ctx,rw rm -rf /ctx/* /ctx/out/* /ctx/root/tmp/* || true")
	return lines
}

// TestBLD15CopiesAndRemovals: paths that are empty, ".", "/", wildcards and links,
// where files are copied and where the build takes its own away.
func TestBLD15CopiesAndRemovals(t *testing.T) {
	h := newHull(t)
	host, check := hostCanary(t, "canary-9d20")
	scratch := t.TempDir() // the only temporary directory that is told
	t.Setenv("TMPDIR", scratch)
	dir := write(t, map[string]string{"f": "x", "d/g": "y"})
	for name, to := range map[string]string{"out": host, "up": "../../../../../../../.." + host, "root": "/", "d/deep": host} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	archive := hostile(t, host)
	if err := os.WriteFile(filepath.Join(dir, "evil.tar"), archive, 0o644); err != nil {
		t.Fatal(err)
	}
	before := listing(t, dir)
	lines := hostileLines(host)
	links := "FROM localhost/base:1 AS links\nRUN ln -s " + host + " /out\nFROM links\n"
	built := 0
	for _, l := range lines {
		text := "# syntax=x\n" + links + l + "\n"
		file := filepath.Join(scratch, "Containerfile")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := h.try("build", "-q", "-t", "x:1", "-f", file, dir); err == nil {
			built++
		} else if !strings.Contains(out, "Containerfile:") {
			t.Errorf("%s: %v\n%s", l, err, out)
		}
		os.Remove(file)
	}
	if built < len(lines)/2 {
		t.Errorf("only %d of %d were built", built, len(lines))
	}
	check()
	// The archive as the context, which the build unpacks and takes away.
	c := exec.Command(h.hull[0], append(append([]string{}, h.hull[1:]...), "build", "-q", "-")...)
	c.Stdin = bytes.NewReader(archive)
	_, _ = c.CombinedOutput()
	// An output onto links.
	out := t.TempDir()
	if err := os.Symlink(host, filepath.Join(out, "etc")); err != nil {
		t.Fatal(err)
	}
	_, _ = h.try("build", "-q", "-o", out, "-f", "-", dir)
	_, _ = h.try("build", "-q", "-o", out, write(t, map[string]string{"f": "x", "Containerfile": "FROM scratch\nCOPY f /etc/canary\nCOPY f /etc/new\n"}))
	h.do(t, "rmi", "-af")
	h.do(t, "builder", "prune", "-af")
	check()
	if after := listing(t, dir); after != before {
		t.Errorf("the context before:\n%s\nafter:\n%s", before, after)
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("in the temporary directory: %v, %v", left, err)
	}
	h.nothingLeft(t)
}

// guarded serves a context, a repository and a file to one user only.
func guarded(t *testing.T, user, password string) *httptest.Server {
	t.Helper()
	core, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Skip("needs git")
	}
	repo := write(t, map[string]string{"Containerfile": "FROM localhost/base:1\nCOPY f /f\n", "f": "in the repository"})
	projects := t.TempDir()
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "x"}, {"clone", "-q", "--bare", ".", filepath.Join(projects, "r.git")}} {
		c := exec.Command("git", args...)
		c.Dir = repo
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	var context bytes.Buffer
	w := tar.NewWriter(&context)
	file := "FROM localhost/base:1\nRUN true\n"
	if err := w.WriteHeader(&tar.Header{Name: "Containerfile", Mode: 0o644, Size: int64(len(file))}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, file)
	w.Close()
	backend := &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(core)), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + projects, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + projects, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch {
		case strings.HasPrefix(r.URL.Path, "/r.git/"):
			backend.ServeHTTP(w, r)
		case r.URL.Path == "/context.tar":
			_, _ = w.Write(context.Bytes())
		case r.URL.Path == "/file":
			fmt.Fprint(w, "a file")
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// TestSECR02PasswordOfURL: the password of a URL is in nothing that a build
// leaves or says.
func TestSECR02PasswordOfURL(t *testing.T) {
	h := newHull(t)
	const user, password = "ann-7e03b5", "canary-0ff1ce"
	server := guarded(t, user, password)
	url := strings.Replace(server.URL, "http://", "http://"+user+":"+password+"@", 1)
	added := write(t, map[string]string{"Containerfile": "FROM localhost/base:1\nARG U\nADD " + url + "/file /file\nADD --keep-git-dir=true " + url + "/r.git /repo\nADD $U/file /again\nRUN grep -r url /repo/.git/config && test -e /repo/f\n"})
	bad := write(t, map[string]string{"Containerfile": "FROM localhost/base:1\nADD " + url + "/none /file\n", "Sum": "FROM localhost/base:1\nADD --checksum=sha256:" + strings.Repeat("0", 64) + " " + url + "/file /file\n",
		"Ref": "FROM localhost/base:1\nADD " + url + "/r.git#none /file\n", "Name": "FROM localhost/base:1\nADD " + url + "/ /file/\n", "Host": "FROM localhost/base:1\nADD http://" + user + ":" + password + "@127.0.0.1:1/f /f\n", "Form": "FROM localhost/base:1\nADD http://" + user + ":" + password + "@127.0.0.1:x/%zz /f\n"})
	var said strings.Builder
	cache := "type=local,dest=" + filepath.Join(h.root, "exported")
	for _, x := range []struct {
		good bool
		args []string
	}{
		{true, []string{"-t", "a:1", url + "/context.tar"}},
		{true, []string{"-t", "b:1", url + "/r.git#main"}},
		{true, []string{"-t", "c:1", "--build-arg", "U=" + url, added}},
		{true, []string{"-t", "d:1", "--build-context", "x=" + url + "/context.tar", "--build-context", "y=" + url + "/r.git", write(t, map[string]string{"Containerfile": "FROM localhost/base:1\nCOPY --from=x / /x\nCOPY --from=y / /y\n"})}},
		{false, []string{url + "/none.tar"}}, {false, []string{url + "/r.git#none"}}, {false, []string{url + "/none.git"}}, {false, []string{strings.Replace(url, "127.0.0.1", "127.0.0.2", 1) + "/x.git"}},
		{false, []string{bad}}, {false, []string{"-f", "Sum", bad}}, {false, []string{"-f", "Ref", bad}}, {false, []string{"-f", "Name", bad}}, {false, []string{"-f", "Host", bad}}, {false, []string{"-f", "Form", bad}},
		{false, []string{"-f", url + "/file", bad}}, {false, []string{"--build-context", "x=" + url + "/none.tar", added}},
	} {
		c := exec.Command(h.hull[0], append(append(append([]string{}, h.hull[1:]...), "--log-level=trace", "build", "--provenance=max", "--cache-to", cache), x.args...)...)
		c.Dir = bad
		out, err := c.CombinedOutput()
		if (err == nil) != x.good {
			t.Errorf("%v: %v\n%s", x.args, err, out)
		}
		if strings.Contains(string(out), password) {
			t.Errorf("%v says it:\n%s", x.args, out)
		}
	}
	for _, name := range []string{"a:1", "b:1", "c:1", "d:1"} {
		said.WriteString(h.do(t, "history", "--no-trunc", name) + h.do(t, "manifest", "inspect", name))
	}
	said.WriteString(h.do(t, "events", "--stream=false", "--since", "1h") + h.do(t, "images", "--format", "{{json .}}"))
	if strings.Contains(said.String(), password) {
		t.Errorf("it is in:\n%s", said.String())
	}
	grep(t, filepath.Dir(h.root), password)
	grepBlobs(t, h, `"uri":"`+server.URL+`/r.git#main"`, 1) // the statements are there, and name the source
	var names []string
	_ = filepath.WalkDir(h.root, func(p string, _ fs.DirEntry, _ error) error { names = append(names, p); return nil })
	if data, _ := json.Marshal(names); bytes.Contains(data, []byte(password)) {
		t.Errorf("a file is named after it: %s", data)
	}
}
