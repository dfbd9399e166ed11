package engine

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// writableInside are the files of /proc and /sys that root of a default
// container may open for writing, besides those of processes: what the kernel
// keeps for each namespace, or guards by capabilities that he has not.
var writableInside = regexp.MustCompile(`^/proc/(cmdline|clear_warn_once|driver/.*|dynamic_debug/.*|kpage.*|mtd|net/.*|pressure/(cpu|io|memory|irq)|self/.*|thread-self/.*)$`)

// SEC-01: what is writable below /proc and /sys.
func TestSEC01WritableFiles(t *testing.T) {
	h := newHarness(t)
	if err := os.Symlink("busybox", filepath.Join(h.rootfs, "bin/find")); err != nil {
		t.Fatal(err)
	}
	// Opening to append changes nothing, and is what the kernel answers.
	out := h.output(h.options("sh", "-c", `find /proc /sys -path '/proc/[0-9]*' -prune -o -type f -perm /222 -print 2>/dev/null | while read f; do true 2>/dev/null 3>>"$f" && echo "$f"; done; true`))
	for _, f := range strings.Fields(out) {
		if !writableInside.MatchString(f) {
			t.Errorf("writable in a default container: %s", f)
		}
	}
	// What must not even be read, where the kernel has it.
	for _, f := range []string{"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/interrupts"} {
		if got := h.output(h.options("sh", "-c", "cat "+f+" 2>/dev/null | head -c 1; true")); got != "" {
			t.Errorf("%s can be read", f)
		}
	}
	for _, d := range []string{"/sys/firmware", "/proc/acpi", "/proc/scsi", "/sys/devices/virtual/powercap"} {
		if got := h.output(h.options("sh", "-c", "ls "+d+" 2>/dev/null; true")); got != "" {
			t.Errorf("%s can be listed: %s", d, got)
		}
	}
}

// SEC-06, CG-06: with namespaces of its own a program gets neither overlay nor
// cgroup file systems in a default container (CVE-2022-0492, CVE-2023-0386).
func TestSEC06NoMountsInNamespaces(t *testing.T) {
	h := newHarness(t)
	for _, command := range []string{
		"unshare -Ur mount -t overlay -o lowerdir=/bin:/etc overlay /tmp",
		"unshare -Urm mount -t tmpfs none /tmp",
		"unshare -UrC mount -t cgroup2 none /tmp",
		"unshare -UrmC mount -t cgroup -o memory none /tmp",
		"unshare -C true",
		"mount -t cgroup2 none /tmp",
		"mount -t cgroup -o memory none /tmp",
	} {
		if got := h.output(h.options("sh", "-c", command+" 2>/dev/null && echo allowed; true")); got != "" {
			t.Errorf("%s: %q", command, got)
		}
	}
}

// CG-01: nothing of the cgroup file system is writable but with a namespace
// that is delegated.
func TestCG01CgroupFilesAreReadOnly(t *testing.T) {
	h := newHarness(t)
	if err := os.Symlink("busybox", filepath.Join(h.rootfs, "bin/find")); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"host", "private"} {
		o := h.options("sh", "-c", `mkdir /sys/fs/cgroup/x /sys/fs/cgroup/*/x 2>/dev/null && echo made
find /sys/fs/cgroup -type f -perm /222 | head -n 2000 | while read f; do true 2>/dev/null 3>>"$f" && echo "$f"; done; true`)
		o.CgroupNS = mode
		if got := h.output(o); got != "" {
			t.Errorf("--cgroupns %s: writable: %.300s", mode, got)
		}
	}
}

// CG-03, CG-04: a program with a user namespace is in the container's cgroup:
// it is killed at the limit, its monitor is not, and is the later victim.
func TestCG03LimitInAUserNamespace(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "sleep 0.2; dd if=/dev/zero of=/dev/null bs=200M count=1")
	o.UIDMap = []string{"0:200000:65536"}
	o.Resources.Memory = 32 << 20
	id := h.detached(o)
	s := h.status(id)
	if text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", s.Pid)); !strings.Contains(string(text), id) {
		t.Errorf("the program is in %s", text)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", s.Monitor))
	if err != nil || strings.Contains(string(text), id) {
		t.Errorf("the monitor is in %s, %v", text, err)
	}
	if own, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil && os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0) == nil {
		os.WriteFile("/proc/self/oom_score_adj", own, 0)
		h.eventually("the monitor is a late victim", func() bool {
			score, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", s.Monitor))
			n, err := strconv.Atoi(strings.TrimSpace(string(score)))
			return err != nil || n == monitorOOMScore
		})
	} else {
		t.Log("root may not lower oom_score_adj here")
	}
	if code, err := h.e.Wait(t.Context(), id, WaitOptions{}); code == 0 || err != nil {
		t.Errorf("wait = %d, %v; want killed", code, err)
	}
	h.eventually("the end is recorded", func() bool { return h.status(id).Status == StatusExited })
	if s := h.status(id); !s.OOMKilled {
		t.Errorf("state = %+v, want killed for memory", s)
	}
}

// CG-05: what is in /dev/shm counts for the container.
func TestCG05SharedMemoryIsCharged(t *testing.T) {
	h := newHarness(t)
	o := h.options("sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null; sleep 1000")
	o.Resources.Memory = 24 << 20
	id := h.detached(o)
	h.eventually("the program that fills /dev/shm is killed", func() bool {
		for _, f := range []string{"/sys/fs/cgroup/memory/hull/hull-" + id + "/memory.oom_control", "/sys/fs/cgroup/hull/hull-" + id + "/memory.events"} {
			text, _ := os.ReadFile(f)
			for line := range strings.Lines(string(text)) {
				if w := strings.Fields(line); len(w) == 2 && w[0] == "oom_kill" && w[1] != "0" {
					return true
				}
			}
		}
		return false
	})
}

// CAP-01: a file of the image with inheritable capabilities gives nobody any
// (CVE-2022-24769).
func TestCAP01InheritableFile(t *testing.T) {
	h := newHarness(t)
	file := filepath.Join(h.rootfs, "bin/cap/busybox")
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o755); err != nil {
		t.Fatal(err)
	}
	// Version 2, effective; all capabilities inheritable, none permitted.
	attr := binary.LittleEndian.AppendUint32(nil, 0x02000001)
	for _, v := range []uint32{0, ^uint32(0), 0, 0x1ff} {
		attr = binary.LittleEndian.AppendUint32(attr, v)
	}
	if err := unix.Setxattr(file, "security.capability", attr, 0); err != nil {
		t.Skip(err)
	}
	id := h.detached(h.options("sleep", "1000"))
	for _, user := range []string{"0", "1000"} {
		o := h.options("/bin/cap/busybox", "cat", "/proc/self/status")
		o.User = user
		var outs [2]string
		outs[0] = h.output(o)
		var b strings.Builder
		if _, err := h.e.Exec(t.Context(), id, ExecOptions{User: user, Command: o.Command, Streams: Streams{Stdout: &b}}); err != nil {
			t.Fatal(err)
		}
		outs[1] = b.String()
		for i, out := range outs {
			for line := range strings.Lines(out) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
				value = strings.TrimLeft(strings.TrimSpace(value), "0")
				if (name == "CapInh" || name == "CapAmb" || user != "0" && (name == "CapPrm" || name == "CapEff")) && value != "" {
					t.Errorf("user %s, start %d: %s", user, i, line)
				}
			}
		}
	}
}

// RT-08: fields of 70 kB and numbers around 2^16 are taken whole or refused.
func TestRT08LargeConfigurations(t *testing.T) {
	h := newHarness(t)
	many := races(3000, 1<<16+1)
	long := strings.Repeat("x", 70000)
	host := map[string]string{}
	for _, n := range []string{"mnt", "pid", "ipc", "uts", "net"} {
		host[n], _ = os.Readlink("/proc/self/ns/" + n)
	}
	for name, change := range map[string]func(o *CreateOptions){
		"variable": func(o *CreateOptions) { o.Env = []string{"LONG=" + long} },
		"variables": func(o *CreateOptions) {
			for i := range many {
				o.Env = append(o.Env, fmt.Sprintf("V%d=%d", i, i))
			}
		},
		"destination": func(o *CreateOptions) { o.Mounts = []Mount{{Type: "tmpfs", Destination: "/" + long}} },
		"deep destination": func(o *CreateOptions) {
			o.Mounts = []Mount{{Type: "tmpfs", Destination: strings.Repeat("/d", 2000)}}
		},
		"mounts": func(o *CreateOptions) {
			for i := range 700 {
				o.Mounts = append(o.Mounts, Mount{Type: "tmpfs", Destination: fmt.Sprintf("/m%d", i)})
			}
		},
		"maps": func(o *CreateOptions) {
			for i := range 1<<16 + 1 {
				o.UIDMap = append(o.UIDMap, fmt.Sprintf("%d:%d:1", i, 200000+i))
			}
		},
		"340 maps": func(o *CreateOptions) {
			for i := range 340 {
				o.UIDMap = append(o.UIDMap, fmt.Sprintf("%d:%d:1", i, 200000+i))
			}
		},
		"overflowing map": func(o *CreateOptions) { o.UIDMap = []string{"0:4294967295:65537"} },
		"hostname":        func(o *CreateOptions) { o.Hostname = long },
		"annotation":      func(o *CreateOptions) { o.Annotations = map[string]string{"a": long} },
		"argument":        func(o *CreateOptions) { o.Command = append(o.Command, long) },
	} {
		o := h.options("sh", "-c", "readlink /proc/self/ns/mnt /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/uts /proc/self/ns/net; env | grep -c -e ^V -e ^LONG")
		o.AutoRemove = true
		change(&o)
		begin := time.Now()
		_, out, errs, err := h.run(o)
		if d := time.Since(begin); d > time.Second {
			t.Logf("%s: %v", name, d)
		}
		lines := strings.Fields(out)
		if err != nil || len(lines) == 0 {
			t.Logf("%s: refused: %.120v %.80s", name, err, errs)
			continue
		}
		for _, n := range host {
			if strings.Contains(out, n) {
				t.Errorf("%s: the namespace %s is the host's", name, n)
			}
		}
		if count := lines[len(lines)-1]; name == "variable" && count != "1" || name == "variables" && count != strconv.Itoa(many) {
			t.Errorf("%s: %s variables arrived", name, count)
		}
	}
}
