package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// resident is a process's memory in bytes.
func resident(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.Fields(string(data))[1])
	if err != nil {
		t.Fatal(err)
	}
	return n * os.Getpagesize()
}

// slowWriter takes what it is given at its own pace.
type slowWriter struct{ n int }

func (w *slowWriter) Write(p []byte) (int, error) {
	w.n += len(p)
	time.Sleep(time.Millisecond)
	return len(p), nil
}

// EXEC-02: output without end is not kept in memory, by exec nor by the
// container's monitor, and a health check's is cut.
func TestEXEC02OutputWithoutEnd(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "sleep 0.3; exec yes")
	o.LogDriver = "none"
	o.Health = &Health{Test: []string{"CMD-SHELL", "yes | head -c 50000000"}, Interval: time.Hour, Timeout: 20 * time.Second}
	id := h.detached(o)
	s := h.status(id)
	before := resident(t, os.Getpid()) + resident(t, s.Monitor)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var w slowWriter
	h.e.Exec(ctx, id, ExecOptions{Command: []string{"yes"}, Streams: Streams{Stdout: &w}})
	after := resident(t, os.Getpid()) + resident(t, s.Monitor)
	if w.n == 0 || after-before > 24<<20 {
		t.Errorf("%d bytes of output, %d bytes more memory", w.n, after-before)
	}
	result, err := h.e.HealthCheck(t.Context(), id)
	if err != nil || len(result.Output) > 1<<20 {
		t.Errorf("health check: %d bytes of output, %v", len(result.Output), err)
	}
}

// EXEC-03: clients that come and go leave nothing: neither descriptors nor
// goroutines here and in the monitor.
func TestEXEC03ClientsComeAndGo(t *testing.T) {
	h := newHarness(t)
	o := h.options("cat")
	o.Interactive = true
	id := h.detached(o)
	monitor := h.status(id).Monitor
	files := func(pid int) int {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	round := func(i int) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%4)*time.Millisecond)
		defer cancel()
		in, _ := io.Pipe()
		h.e.Attach(ctx, id, Streams{Stdin: in, Stdout: io.Discard})
		in.Close()
		if i%10 == 0 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%7)*time.Millisecond)
			h.e.Exec(ctx, id, ExecOptions{Command: []string{"sleep", "0.01"}})
			cancel()
		}
	}
	for i := range 20 {
		round(i)
	}
	time.Sleep(100 * time.Millisecond)
	ownFiles, monitorFiles, goroutines := files(os.Getpid()), files(monitor), runtime.NumGoroutine()
	for i := range races(200, 10000) {
		round(i)
	}
	h.eventually("descriptors and goroutines are as many as before", func() bool {
		return files(os.Getpid()) <= ownFiles+1 && files(monitor) <= monitorFiles && runtime.NumGoroutine() <= goroutines+2
	})
}

// EXEC-05: verbs that look at a container execute and map nothing of its files
// outside of it.
func TestEXEC05NothingIsExecutedOutside(t *testing.T) {
	h := newHarness(t)
	// What a tool of the host would load or run.
	for _, name := range []string{"bin/ps", "bin/tar", "bin/cp", "bin/nsenter", "lib/ld-linux.so.2", "lib/libnss_files.so.2", "etc/nsswitch.conf", "etc/ld.so.preload"} {
		file := filepath.Join(h.rootfs, name)
		os.Remove(file)
		os.MkdirAll(filepath.Dir(file), 0o755)
		if err := os.WriteFile(file, []byte("#!/bin/sh\ntouch /hacked\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	id := h.detached(h.options("sleep", "1000"))
	fan, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_NONBLOCK|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err != nil {
		t.Skip(err)
	}
	defer unix.Close(fan)
	root := fmt.Sprintf("/proc/%d/root", h.status(id).Pid)
	for _, dir := range []string{"bin", "lib", "etc"} {
		names, _ := os.ReadDir(filepath.Join(h.rootfs, dir))
		for _, n := range names {
			for _, tree := range []string{root, h.rootfs} {
				if n.Type().IsRegular() {
					if err := unix.FanotifyMark(fan, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC, unix.AT_FDCWD, filepath.Join(tree, dir, n.Name())); err != nil {
						t.Skip(err)
					}
				}
			}
		}
	}
	if _, err := h.e.Top(t.Context(), id, TopOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := h.e.Stats(t.Context(), []string{id}, nil); err != nil {
		t.Error(err)
	}
	if _, err := h.e.Inspect(t.Context(), id, true); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/bin/ps", "/etc", "/lib"} {
		if err := h.e.Copy(t.Context(), CopyEnd{Container: id, Path: path}, CopyEnd{Stream: io.Discard}, CopyOptions{}); err != nil {
			t.Error(err)
		}
	}
	if err := h.e.Copy(t.Context(), CopyEnd{Path: "/etc/passwd"}, CopyEnd{Container: id, Path: "/tmp/passwd"}, CopyOptions{}); err != nil {
		t.Error(err)
	}
	if err := h.e.Export(t.Context(), id, io.Discard); err != nil {
		t.Error(err)
	}
	buf := make([]byte, 4096)
	n, err := unix.Read(fan, buf)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	for at := 0; at+24 <= n; {
		fd := int32(binary.NativeEndian.Uint32(buf[at+16:]))
		file, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", binary.NativeEndian.Uint32(buf[at+20:])))
		t.Errorf("%s was executed by %s", file, program)
		unix.Close(int(fd))
		at += int(binary.NativeEndian.Uint32(buf[at:]))
	}
	if _, err := os.Stat("/hacked"); err == nil {
		t.Error("a script of the image ran on the host")
		os.Remove("/hacked")
	}
}
