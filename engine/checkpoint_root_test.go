package engine

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"hull/criu"
)

// needCRIU skips where criu is missing, or does not work on this kernel.
func needCRIU(t *testing.T) *harness {
	t.Helper()
	h := newHarness(t)
	if err := criu.Check(t.Context()); err != nil {
		t.Skip(err)
	}
	return h
}

// counting prints a number that grows, so that a restored program is told from one that was begun anew.
func (h *harness) counting() string {
	return h.detached(h.options("sh", "-c", `i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep .05; done`))
}

func TestCheckpointInPlace(t *testing.T) {
	h := needCRIU(t)
	id := h.counting()
	ctx := context.Background()
	count := func() int {
		_, out := h.exec(id, "cat", "/tmp/n")
		n, _ := strconv.Atoi(strings.TrimSpace(out))
		return n
	}
	h.eventually("the program counts", func() bool { return count() > 3 })
	if _, err := h.e.Restore(ctx, id, RestoreOptions{}); err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("restore of a running container: %v", err)
	}
	if _, err := h.e.Checkpoint(ctx, id, CheckpointOptions{LeaveRunning: true}); err != nil {
		t.Fatal(err)
	}
	if s := h.status(id); s.Status != StatusRunning {
		t.Fatalf("after --leave-running it is %s", s.Status)
	}
	res, err := h.e.Checkpoint(ctx, id, CheckpointOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if res.Statistics.PagesWritten == 0 {
		t.Errorf("statistics: %+v", res.Statistics)
	}
	if s := h.status(id); s.Status != StatusExited {
		t.Fatalf("it is %s", s.Status)
	}
	if _, err := h.e.Restore(ctx, id, RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := count(); n <= 3 {
		t.Errorf("it began anew: %d", n)
	}
	if _, err := h.e.Restore(ctx, id, RestoreOptions{}); err == nil {
		t.Error("a checkpoint that was used is there yet")
	}
}

// The archive makes another container, with the first one's files; one that was changed is refused (CHK-01, CHK-02).
func TestCHK02ExportImport(t *testing.T) {
	h := needCRIU(t)
	ctx := context.Background()
	h.importRootfs("chk:1")
	id := h.detached(CreateOptions{Image: "chk:1", NetworkMode: "none", Command: []string{"sh", "-c", `echo kept > /etc/kept; exec sleep 1000`}})
	h.eventually("the file is there", func() bool { code, _ := h.exec(id, "sh", "-c", "test -s /etc/kept"); return code == 0 })
	file := filepath.Join(t.TempDir(), "c.tar")
	if _, err := h.e.Checkpoint(ctx, id, CheckpointOptions{Export: file, Compress: "none"}); err != nil {
		t.Fatal(err)
	}
	res, err := h.e.RestoreFrom(ctx, "", RestoreOptions{Import: file, Name: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	if _, out := h.exec(res.ID, "cat", "/etc/kept"); out != "kept\n" {
		t.Errorf("the copy has %q", out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(data), `"rootfsImage`, `"rootfsImagf`, 1)
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.e.RestoreFrom(ctx, "", RestoreOptions{Import: file, Name: "other"}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a changed archive: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(h.e.o.Root, ".restore-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What a dump has beyond what the container may have now ends it before it runs (CHK-03).
func TestCHK03MoreThanAllowed(t *testing.T) {
	h := needCRIU(t)
	ctx := context.Background()
	o := h.options("sleep", "1000")
	o.CapAdd = []string{"NET_ADMIN"}
	id := h.detached(o)
	if _, err := h.e.Checkpoint(ctx, id, CheckpointOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := h.e.loadRecord(id)
	if err != nil {
		t.Fatal(err)
	}
	r.Options.CapAdd = nil
	if err := h.e.saveRecord(r); err != nil {
		t.Fatal(err)
	}
	if _, err := h.e.Restore(ctx, id, RestoreOptions{}); err == nil || !strings.Contains(err.Error(), "capabilities") && !strings.Contains(err.Error(), "seccomp") {
		t.Errorf("restored with less: %v", err)
	}
	if s := h.status(id); s.running() {
		t.Error("it runs")
	}
}
