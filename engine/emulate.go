package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hull/state"
)

// A machine is how qemu-user calls an architecture, and how its programs begin
// (elf.h: EI_CLASS, EI_DATA, e_machine).
type machine struct {
	qemu    string
	class   byte
	data    byte
	machine uint16
}

// Values of elf.h. debug/elf has them as well, and with it readers of debugging
// information that every start of the program would pay for.
const (
	class32, class64 = 1, 2
	little, big      = 1, 2
)

var machines = map[string]machine{
	"386":      {"i386", class32, little, 3},
	"amd64":    {"x86_64", class64, little, 62},
	"arm":      {"arm", class32, little, 40},
	"arm64":    {"aarch64", class64, little, 183},
	"loong64":  {"loongarch64", class64, little, 258},
	"mips64":   {"mips64", class64, big, 8},
	"mips64le": {"mips64el", class64, little, 8},
	"ppc64le":  {"ppc64le", class64, little, 21},
	"riscv64":  {"riscv64", class64, little, 243},
	"s390x":    {"s390x", class64, big, 22},
}

// native says whether this machine runs programs of an architecture by itself.
func native(arch string) bool {
	return arch == "" || arch == runtime.GOARCH || arch == "386" && runtime.GOARCH == "amd64" || arch == "arm" && runtime.GOARCH == "arm64"
}

// magic is the beginning of a program for the machine, and which bits of it count.
func (m machine) magic() (magic, mask string) {
	kind, number := "\x02\x00", string([]byte{byte(m.machine), byte(m.machine >> 8)})
	kindMask := "\xfe\xff" // executables and, as 3, those that can lie anywhere
	if m.data == big {
		kind, number, kindMask = "\x00\x02", string([]byte{byte(m.machine >> 8), byte(m.machine)}), "\xff\xfe"
	}
	magic = "\x7fELF" + string([]byte{m.class, m.data, 1, 0}) + strings.Repeat("\x00", 8) + kind + number
	return magic, strings.Repeat("\xff", 7) + "\x00" + strings.Repeat("\xff", 8) + kindMask + "\xff\xff"
}

// Emulate lets programs of another architecture run until release is called. If
// the machine's own binfmt_misc does not run them, qemu-user is registered: as
// a user in his user namespace, where only his containers see it; as root for
// the machine, for as long as this process lives.
func (e *Engine) Emulate(_ context.Context, arch string) (release func(), err error) {
	if native(arch) {
		return func() {}, nil
	}
	m, ok := machines[arch]
	if !ok {
		return nil, fmt.Errorf("run programs for %s: how they begin is not known", arch)
	}
	if registered("/proc/sys/fs/binfmt_misc", m) {
		return func() {}, nil
	}
	qemu, err := findQemu(m)
	if err != nil {
		return nil, err
	}
	dir, err := openBinfmt()
	if err != nil {
		return nil, hint(fmt.Errorf("run programs for %s: open binfmt_misc: %w", arch, err), "a user needs Linux 6.7 for it; or have root register qemu-user: the package qemu-user-static with binfmt-support does")
	}
	sweepBinfmt(dir)
	self := state.Self()
	name := fmt.Sprintf("hull-%s-%d-%d", m.qemu, self.Pid, self.Start)
	magic, mask := m.magic()
	// F: the kernel opens qemu now, so that it need not be in the container.
	line := ":" + name + ":M::" + escapeBytes(magic) + ":" + escapeBytes(mask) + ":" + qemu + ":F"
	if err := writeAt(dir, "register", line); err != nil && !errors.Is(err, fs.ErrExist) {
		dir.Close()
		return nil, fmt.Errorf("run programs for %s: register %s: %w", arch, qemu, err)
	}
	return func() {
		_ = writeAt(dir, name, "-1") // where somebody else has it mounted, it would stay
		dir.Close()
	}, nil
}

// registered says whether an entry runs such programs without having anything
// in the container.
func registered(dir string, m machine) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	magic, _ := m.magic()
	want := fmt.Sprintf("%x", magic)
	for _, d := range entries {
		data, err := os.ReadFile(filepath.Join(dir, d.Name()))
		if err != nil || !strings.HasPrefix(string(data), "enabled") || strings.HasPrefix(d.Name(), "hull-") {
			continue // another build's is gone when it ends
		}
		var flags, begin string
		for line := range strings.Lines(string(data)) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch k {
			case "flags:":
				flags = v
			case "magic":
				begin = v
			}
		}
		if strings.Contains(flags, "F") && strings.EqualFold(begin, want) {
			return true
		}
	}
	return false
}

// findQemu finds the emulator. It has to be static: its libraries are not in
// the container.
func findQemu(m machine) (string, error) {
	err := fs.ErrNotExist
	for _, name := range []string{"qemu-" + m.qemu + "-static", "qemu-" + m.qemu} {
		path, lerr := exec.LookPath(name)
		if lerr != nil {
			path = "/usr/bin/" + name
		}
		f, oerr := os.Open(path)
		if oerr != nil {
			continue
		}
		begin := make([]byte, 4096)
		n, _ := f.Read(begin)
		f.Close()
		if isStatic(begin[:n]) {
			return filepath.Abs(path)
		}
		err = errors.New("it is not static")
	}
	return "", hint(fmt.Errorf("find qemu-%s-static: %w", m.qemu, err), "install Debian's package qemu-user-static, or what is its like elsewhere")
}

// openBinfmt mounts the binfmt_misc of this user namespace where nobody else
// sees it: it goes with the descriptor.
func openBinfmt() (*os.File, error) {
	fd, err := unix.Fsopen("binfmt_misc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.FsconfigCreate(fd); err != nil {
		return nil, err
	}
	m, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(m), "binfmt_misc"), nil
}

// sweepBinfmt removes what killed builds registered.
func sweepBinfmt(dir *os.File) {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, n := range names {
		w := strings.Split(n, "-")
		if len(w) != 4 || w[0] != "hull" {
			continue
		}
		pid, err := strconv.Atoi(w[2])
		start, serr := strconv.ParseUint(w[3], 10, 64)
		if err == nil && serr == nil && !(state.ProcessID{Pid: pid, Start: start}).Alive() {
			_ = writeAt(dir, n, "-1") // the next one tries again
		}
	}
}

func writeAt(dir *os.File, name, text string) error {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

func escapeBytes(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return b.String()
}
