package build_test

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// everything is a file of every instruction: stages side by side and upon each
// other, cache mounts, secrets, here-documents, copies from stages and archives.
const everything = `# syntax=docker/dockerfile:1
ARG BASE=localhost/base:1
FROM $BASE AS a
LABEL of=a
COPY f /f
RUN echo 1 > /1 && rm /opt -r
RUN --mount=type=cache,target=/c,id=shared echo 2 > /2 && echo x >> /c/log
ONBUILD RUN echo triggered > /onbuild

FROM $BASE AS b
ARG V=1
ENV E=$V
SHELL ["/bin/sh", "-e", "-c"]
RUN --mount=type=secret,id=s,target=/run/s --mount=type=tmpfs,target=/t test "$(cat /run/s)" = sesame && echo ok > /t/x && wc -c < /run/s > /secret
RUN <<EOF
echo a here-document > /doc
mkdir -p /deep/er && ln -s ../doc /deep/link && ln /doc /hard
EOF
COPY <<EOF <<-SECOND /docs/
E is $E
EOF
	tabs
SECOND
ADD archive.tar /unpacked/
ADD --chmod=600 f /added

FROM scratch AS c
COPY --from=b /doc /only
COPY --link f /linked

FROM a
MAINTAINER somebody
WORKDIR /w
COPY --from=a --chown=5:6 /1 /from
COPY --from=b /docs /secret /deep /got/
COPY --from=c / /c/
RUN --mount=type=bind,from=b,target=/b --mount=type=cache,target=/cache,id=shared,sharing=locked cat /1 /2 /f /b/doc > /3 && ls /cache > /dev/null
USER ann
RUN touch /tmp/mine
VOLUME /data
EXPOSE 80/tcp
HEALTHCHECK --interval=5s CMD true
STOPSIGNAL SIGINT
ENTRYPOINT ["sh"]
CMD ["-c", "id"]
`

// TestF07Killed kills builds at random moments, one after the other upon what
// the last has left. After each the next build gives the right image, nothing
// is mounted and the store is sound. HULL_CRASH_RUNS says how many are killed.
func TestF07Killed(t *testing.T) {
	h := newHull(t)
	dir := write(t, map[string]string{"f": "content", "Containerfile": everything})
	if out, err := exec.Command("tar", "-C", dir, "--mtime=@0", "-cf", filepath.Join(dir, "archive.tar"), "f").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v %s", err, out)
	}
	t.Setenv("CRASH_SECRET", "sesame")
	argv := []string{"build", "-q", "--timestamp", "0", "--secret", "id=s,env=CRASH_SECRET", dir}
	began := time.Now()
	want := h.do(t, argv...)
	took := time.Since(began)
	h.forget(t, want, true)
	rounds := 12
	if n, err := strconv.Atoi(os.Getenv("HULL_CRASH_RUNS")); err == nil {
		rounds = n
	}
	killed, whole := 0, 0
	for i := 0; killed < rounds && whole < 4*rounds; i++ {
		for range 1 + i%3/2 { // each third is killed upon what another left
			// How long a build takes changes with the load of the machine.
			if h.killed(t, rand.N(took), argv) {
				killed++
				took += took / 20
			} else {
				whole++
				took -= took / 8
			}
		}
		if got := h.do(t, argv...); got != want {
			t.Fatalf("round %d: image %s, want %s", i, got, want)
		}
		if out, err := h.try("system", "check"); err != nil || out != "" {
			t.Fatalf("round %d: system check: %v %s", i, err, out)
		}
		h.nothingLeft(t)
		h.forget(t, want, i%8 > 0)
	}
	t.Logf("%d builds were killed, %d came to their end before; after each the next build's image, system check and mounts were right", killed, whole)
	grep(t, filepath.Join(h.root, "build"), "sesame")
}

// killed runs a build and kills it after a while; it reports whether it was
// still running.
func (h *hull) killed(t *testing.T, after time.Duration, argv []string) bool {
	t.Helper()
	c := exec.Command(h.hull[0], append(slices.Clone(h.hull[1:]), argv...)...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	_ = c.Process.Kill()
	return c.Wait() != nil
}

// forget removes an image, and all that builds keep.
func (h *hull) forget(t *testing.T, id string, cache bool) {
	t.Helper()
	h.do(t, "rmi", "-f", id)
	if cache {
		h.do(t, "builder", "prune", "-af")
	}
}

// TestStepIsItsBuilds: a command that comes by while a step's program has ended,
// and that finds what looks like a lock of somebody killed, leaves the step to
// the build: that still looks at what the program has changed.
func TestStepIsItsBuilds(t *testing.T) {
	h := newHull(t)
	dir := write(t, map[string]string{"Containerfile": "FROM localhost/base:1\n" + strings.Repeat("RUN head -c 10000000 /dev/urandom > /f\n", 2)})
	ended := make(chan error)
	var out string
	go func() {
		var err error
		out, err = h.try("build", "-q", dir)
		ended <- err
	}()
	run := filepath.Join(filepath.Dir(h.root), "run")
	for passing := 0; ; passing++ {
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			t.Logf("%d commands came by", passing)
			h.nothingLeft(t)
			return
		default:
		}
		steps, _ := os.ReadDir(filepath.Join(run, "containers")) // none yet, or none any more
		for _, s := range steps {
			if f, err := os.OpenFile(filepath.Join(run, "locks", "container-"+s.Name()), os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
				f.Close()
			}
		}
		h.do(t, "volume", "create", "--ignore", "passing")
		h.do(t, "volume", "rm", "-f", "passing")
	}
}
