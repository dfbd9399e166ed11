package build_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// full says that attacks are to be made as often as they ask, with all they can vary.
func full() bool { return os.Getenv("HULL_RACES") == "full" }

// hostCanary is a directory of the host that no build may see or change. check
// compares it with how it was.
func hostCanary(t *testing.T, text string) (dir string, check func()) {
	t.Helper()
	dir = write(t, map[string]string{"canary": text, "sub/canary": text, "b/stub": "", "resolv.conf": "", "hosts": "", "hostname": ""})
	makeReadable(t, dir)
	before := listing(t, dir)
	return dir, func() {
		t.Helper()
		if after := listing(t, dir); after != before {
			t.Errorf("the host's files before:\n%s\nafter:\n%s", before, after)
		}
	}
}

// TestBLD01BindSources: the source of a mount is found inside its stage, image or
// context, whatever links lead to it; what is written with rw arrives nowhere.
func TestBLD01BindSources(t *testing.T) {
	h := newHull(t)
	const text = "canary-5e1fb1d0"
	pattern := strings.Replace(text, "-", "[-]", 1) // which is not the text itself: it is kept in the history
	host, check := hostCanary(t, text)
	links := fmt.Sprintf("ln -s / /root-link && ln -s ../../../../../../../.. /up && ln -s %[1]s /abs && mkdir -p /d && ln -s ../../../../../..%[1]s /d/rel && ln -s /d/rel /d/two", host)
	h.do(t, "build", "-q", "-t", "localhost/links:1", write(t, map[string]string{"Containerfile": "FROM localhost/base:1\nRUN " + links + "\n"}))
	dir := write(t, map[string]string{"f": "x"})
	for name, to := range map[string]string{"root-link": "/", "up": "../../../../../../../../../..", "abs": host, "f-abs": filepath.Join(host, "canary")} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	// What leads to the tree's own root shows that, what leads to the host's directory is not there.
	look := fmt.Sprintf("! grep -rs %s /m/etc /m/tmp /m/sub && test ! -e /m%[2]s && mkdir -p /m%[2]s/sub /m/sub && for f in canary sub/canary; do echo owned > /m/$f; echo owned > /m%[2]s/$f; done; true", pattern, host)
	sources := []string{"/root-link", "/d/two", "/up" + host + "/canary", "/f-abs"}
	modes := []string{",rw"}
	if full() {
		sources, modes = append(sources, "/up", "/abs", "/../.."+host, "/d/rel", "/root-link"+host, "/abs/../../../../../"+host), []string{",rw", ""}
	}
	for _, from := range []string{"from=a,", "from=localhost/links:1,", ""} {
		for _, source := range sources {
			for _, rw := range modes {
				file := "FROM localhost/base:1 AS a\nRUN " + links + "\nFROM localhost/base:1\nRUN --mount=type=bind," + from + "source=" + source + ",target=/m" + rw + " " + look + "\n"
				if err := os.WriteFile(filepath.Join(dir, "Containerfile"), []byte(file), 0o644); err != nil {
					t.Fatal(err)
				}
				out, err := h.try("build", dir)
				if strings.Contains(out, text+"\n") || err == nil && !strings.HasSuffix(source, "-link") && source != "/up" {
					t.Errorf("%ssource=%s%s: %v\n%s", from, source, rw, err, out)
				}
				if err != nil && !strings.Contains(out, "no such file or directory") && !strings.Contains(out, "exit status") {
					t.Errorf("%ssource=%s%s: %v\n%s", from, source, rw, err, out)
				}
			}
		}
	}
	check()
	grep(t, h.root, text)
	h.nothingLeft(t)
}

// TestBLD08MountGrammar: of a mount only known words count, and none of them
// shares its propagation, leads out of its tree, or takes the place of the kernel's files.
func TestBLD08MountGrammar(t *testing.T) {
	h := newHull(t)
	dir := write(t, map[string]string{"d/f": "x"})
	for _, bad := range []string{
		"type=bind,source=d,target=/m,bind-propagation=shared",
		"type=bind,source=d,target=/m,bind-propagation=rshared",
		"type=bind,source=d,target=/m,bind-propagation=rslave",
		"type=bind,source=d,target=/m,propagation=shared",
		"type=bind,source=d,target=/m,shared", "type=bind,source=d,target=/m,rshared",
		"type=bind,source=d,target=/m,slave", "type=bind,source=d,target=/m,private",
		"type=bind,source=d,target=/m,dev", "type=bind,source=d,target=/m,suid", "type=bind,source=d,target=/m,idmap",
		"type=bind,source=d,target=/m,lowerdir=/", "type=bind,source=d,target=/m,upperdir=/tmp,workdir=/tmp",
		"type=bind,source=..,target=/m", "type=bind,source=../d,target=/m,rw", "type=bind,source=d/../../d,target=/m",
		"type=proc,target=/m", "type=sysfs,target=/m", "type=devpts,target=/m", "type=overlay,target=/m", "type=volume,source=v,target=/m", "type=image,source=localhost/base:1,target=/m",
		"type=bind,source=d,target=/proc", "type=bind,source=d,target=/proc/self", "type=bind,source=d,target=/sys/fs", "type=tmpfs,target=/proc", "type=cache,target=/proc/sys",
		"type=secret,id=s,target=/proc/self/attr/current", "type=bind,source=d,target=/x/../proc", "type=bind,source=d,target=/link/self", "type=tmpfs,target=/link",
		"type=tmpfs,target=/m,size=1m,mode=0777,mpol=bind:0", "type=cache,target=/m,sharing=rshared", "type=cache,target=/m,source=../..",
	} {
		if err := os.WriteFile(filepath.Join(dir, "Containerfile"), []byte("FROM localhost/base:1\nRUN ln -s proc /link\nRUN --mount="+bad+" cat /proc/self/mountinfo\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := h.try("build", "--secret", "id=s,src="+filepath.Join(dir, "d/f"), dir); err == nil {
			t.Errorf("--mount=%s is taken:\n%s", bad, out)
		} else if strings.Contains(out, "exit status 1") { // the program ran
			t.Errorf("--mount=%s: the program was started:\n%s", bad, out)
		}
	}
	// And of those that are good, none is shared with the host.
	good := "FROM localhost/base:1\nRUN --mount=source=d,target=/a --mount=source=d,target=/b,rw --mount=type=cache,target=/c --mount=type=cache,id=x,source=p,target=/p --mount=type=tmpfs,target=/t " +
		"--mount=type=bind,from=localhost/base:1,target=/i --mount=type=secret,id=s grep -E ' /(a|b|c|p|t|i|run/secrets/s) ' /proc/self/mountinfo > /all; test $(wc -l < /all) = 7 && ! grep -E 'shared:|master:' /all\n"
	if err := os.WriteFile(filepath.Join(dir, "Containerfile"), []byte(good), 0o644); err != nil {
		t.Fatal(err)
	}
	h.do(t, "build", "-q", "--secret", "id=s,src="+filepath.Join(dir, "d/f"), dir)
	h.nothingLeft(t)
}

// TestBLD09CacheNames: whatever the id or source of a cache mount, its files lie
// in a directory of the caches' own, named by a hash.
func TestBLD09CacheNames(t *testing.T) {
	h := newHull(t)
	const text = "canary-77c0e1aa"
	host, check := hostCanary(t, text)
	caches := filepath.Join(h.root, "build", "caches")
	ids := []string{"..", "/", "../../../../../../.." + host, host, "lock", strings.Repeat("x", 5000)}
	sources := []string{"out", "root" + host, "none"}
	if full() {
		ids = append(ids, ".", "../..", "a/../../../b", "./x", "data", "%2e%2e%2f", `\..\..`)
		sources = append(sources, "up", "out/sub", "mine/..", "/../../"+host)
	}
	for i, id := range ids {
		mount := "FROM localhost/base:1\nRUN --mount=type=cache,id=" + id
		links := fmt.Sprintf("ln -s %s /c/out && ln -s / /c/root && ln -s ../../.. /c/up && ln -s %[1]s/none /c/none", host)
		h.do(t, "build", "-q", write(t, map[string]string{"Containerfile": mount + ",target=/c ! grep -r " + text + " /c && " + links + "\n"}))
		for _, source := range sources {
			// Where a path leads to nothing in the cache, it is made or an error: the host's is not there.
			file := mount + ",source=" + source + ",target=/m ! grep -r " + text + " /m/ && echo owned > /m/canary\n"
			if out, err := h.try("build", write(t, map[string]string{"Containerfile": file})); strings.Contains(out, text+"\n") {
				t.Errorf("id=%s source=%s: %v\n%s", id, source, err, out)
			}
		}
		h.do(t, "build", "-q", write(t, map[string]string{"Containerfile": mount + fmt.Sprintf(",target=/c echo %d > /c/mine\n", i)}))
	}
	entries, err := os.ReadDir(caches)
	if err != nil || len(entries) != len(ids) {
		t.Errorf("%d ids have the caches %v, %v", len(ids), entries, err)
	}
	for _, e := range entries {
		if len(e.Name()) != 32 || strings.Trim(e.Name(), "0123456789abcdef") != "" || !e.IsDir() {
			t.Errorf("a cache is named %s", e.Name())
		}
		if _, err := os.ReadFile(filepath.Join(caches, e.Name(), "data", "mine")); err != nil {
			t.Error(err)
		}
	}
	check()
	h.do(t, "builder", "prune", "-af")
	if left, err := os.ReadDir(caches); err != nil || len(left) > 0 {
		t.Errorf("prune leaves %v, %v", left, err)
	}
	check() // no link was followed
	h.nothingLeft(t)
}

// TestBLD10StagesRace: stages change the way to what other stages mount, at the
// same time. HULL_RACES=full does it for ten minutes.
func TestBLD10StagesRace(t *testing.T) {
	h := newHull(t)
	const text = "canary-c3a911ef"
	host, check := hostCanary(t, text)
	budget := 2 * time.Second
	if full() {
		budget = 10 * time.Minute
	}
	// The cache has a directory of the same path as the canary's: what is resolved
	// inside the cache is there.
	swap := fmt.Sprintf("mkdir -p /c/real/sub /c/p/s /c%s/sub && cd /c && while [ ! -e stop ]; do for to in %[1]s real ../../../../../../../..%[1]s; do "+
		"ln -sfn $to n && mv -fT n s || rm -rf s; done; mv -T p/s p/t; ln -s %[1]s p/s; rm p/s; mv -T p/t p/s; done 2>/dev/null", host)
	rounds, mounted, end := 0, 0, time.Now().Add(budget)
	for time.Now().Before(end) {
		id := fmt.Sprintf("race%d", rounds)
		file := "FROM localhost/base:1 AS swap\nRUN --mount=type=cache,id=" + id + ",target=/c " + swap + "\n"
		for s, source := range []string{"s", "s/sub", "p/s"} {
			file += fmt.Sprintf("FROM localhost/base:1 AS look%d\n", s)
			for i := range 6 {
				file += fmt.Sprintf("RUN --mount=type=cache,id=%s,source=%s,target=/m cat /m/canary; echo owned > /m/canary%d && echo look\n", id, source, i)
			}
			if s == 0 { // the last of its steps ends the other stage
				file += "RUN --mount=type=cache,id=" + id + ",target=/c touch /c/stop\n"
			}
		}
		file += "FROM scratch\n"
		for s := range 3 {
			file += fmt.Sprintf("COPY --from=look%d /etc/passwd /\n", s)
		}
		file += "COPY --from=swap /etc/passwd /\n"
		// A step may find no directory, and then the build fails.
		out, _ := h.try("build", "--no-cache", "--jobs=4", write(t, map[string]string{"Containerfile": file}))
		if strings.Contains(out, text) {
			t.Fatalf("the canary was read:\n%s", out)
		}
		mounted += strings.Count(out, "] look\n")
		rounds++
		if rounds%20 == 0 {
			h.do(t, "builder", "prune", "-af")
		}
	}
	check()
	if mounted == 0 {
		t.Error("no step came to mount something")
	}
	t.Logf("%d builds, in which %d steps mounted what another changed", rounds, mounted)
	h.nothingLeft(t)
}

// TestBLD12StubReplaced: what a start made as a place for a mount is taken away
// after the step inside the step's own layer, whatever a program has put above it.
func TestBLD12StubReplaced(t *testing.T) {
	h := newHull(t)
	const text = "canary-1d9c0e55"
	host, check := hostCanary(t, text)
	dir := write(t, map[string]string{"f": "x", "d/f": "x"})
	for _, run := range []string{
		"--mount=source=f,target=/a/b/stub mv /a /z && ln -s HOST /a",
		"--mount=source=f,target=/a/b/stub mv /a/b /a/y && ln -s HOST/b /a/b",
		"--mount=source=f,target=/a/b/stub mv /a /z && ln -s ../../../../../../../../../..HOST /a",
		"--mount=source=d,target=/a/b/sub mv /a/b /z && ln -s HOST /a/b",
		"--mount=type=cache,target=/a/b/stub mv /a /z && ln -s HOST /a",
		"--mount=type=tmpfs,target=/a/b/stub mv /a /z && ln -s HOST /a",
		"--mount=type=secret,id=s,target=/a/b/stub mv /a /z && ln -s HOST /a",
		"--mount=source=d,target=/a/b/stub,rw mv /a /z && ln -s HOST /a",
		"--mount=type=secret,id=s,target=/a/canary mv /a /z && ln -s HOST /a",
		"mv /etc /z && ln -s HOST /etc",
		"mkdir /q && mv /etc /q/etc && ln -s /proc/1/root/HOST /etc",
		"mv /run /z && ln -s HOST /run; mv /var /y && ln -s HOST /var; ln -s HOST /a",
	} {
		text := "FROM localhost/base:1\nRUN rm -f /etc/hosts /etc/resolv.conf /etc/hostname\nRUN " + strings.ReplaceAll(run, "HOST", host) + "\n"
		if err := os.WriteFile(filepath.Join(dir, "Containerfile"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := h.try("build", "-q", "--secret", "id=s,src="+filepath.Join(dir, "f"), dir)
		if err != nil && !strings.Contains(out, "exit status") {
			t.Errorf("%s: %v\n%s", run, err, out)
		}
		check()
	}
	grep(t, h.root, text)
	h.nothingLeft(t)
}
