package criu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// Allowed is what a container's processes may have: what comes back from a dump is held against it.
type Allowed struct {
	Spec *oci.Spec
	// Capabilities are those that the first process could have, a bit each.
	Capabilities uint64
	// Joined are namespaces that are not to be new: kind, as below /proc/PID/ns, and path. Host are those that are the host's.
	Joined map[string]string
	Host   []string
	// hosts are the host's namespaces: kind and name.
	hosts map[string]string
	// places are where the configuration's mounts are; nil: where it says.
	places []place
}

var namespaceKinds = []string{"mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time"}

// Allow is what the configuration allows. It must be called in the host's namespaces.
func Allow(spec *oci.Spec, capabilities uint64) (*Allowed, error) {
	a := &Allowed{Spec: spec, Capabilities: capabilities, Joined: map[string]string{}, hosts: map[string]string{}}
	for _, kind := range namespaceKinds {
		name, err := os.Readlink("/proc/thread-self/ns/" + kind)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		a.hosts[kind] = name
	}
	own := map[oci.LinuxNamespaceType]string{oci.MountNamespace: "mnt", oci.PIDNamespace: "pid", oci.NetworkNamespace: "net", oci.IPCNamespace: "ipc",
		oci.UTSNamespace: "uts", oci.CgroupNamespace: "cgroup", oci.UserNamespace: "user", oci.TimeNamespace: "time"}
	for kind, name := range own {
		if !slices.ContainsFunc(spec.Linux.Namespaces, func(n oci.LinuxNamespace) bool { return n.Type == kind }) {
			a.Host = append(a.Host, name)
		}
	}
	return a, nil
}

// sysAdmin is CAP_SYS_ADMIN's bit.
const sysAdmin = 1 << 21

// Verify looks at a restored container's processes, which must stand still: none has more than a allows.
func Verify(pid int, a *Allowed) error {
	all := tree(pid)
	for _, p := range all {
		if err := a.process(pid, p); err != nil {
			return fmt.Errorf("verify restored process %d: %w", p, err)
		}
	}
	mounts, err := mountLines(strconv.Itoa(pid))
	if err == nil {
		err = a.mounts(mounts)
	}
	if err != nil {
		return fmt.Errorf("verify restored mounts: %w", err)
	}
	return nil
}

// tree is a process and all below it.
func tree(pid int) []int {
	out := []int{pid}
	for i := 0; i < len(out); i++ {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", out[i]))
		for _, f := range files {
			data, _ := os.ReadFile(f)
			for w := range strings.FieldsSeq(string(data)) {
				if n, err := strconv.Atoi(w); err == nil {
					out = append(out, n)
				}
			}
		}
	}
	return out
}

func killTree(pid int) {
	for _, p := range tree(pid) {
		unix.Kill(p, unix.SIGKILL)
	}
}

func (a *Allowed) process(first, pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		return errors.New("it has gone")
	}
	for _, t := range threads {
		data, err := os.ReadFile(t)
		if err != nil {
			return err
		}
		if err := a.status(string(data)); err != nil {
			return err
		}
	}
	if err := a.label(pid); err != nil {
		return err
	}
	return a.namespaces(first, pid)
}

// status holds credentials against the request.
func (a *Allowed) status(status string) error {
	get := func(key string) string {
		for line := range strings.Lines(status) {
			if v, ok := strings.CutPrefix(line, key+":"); ok {
				return strings.TrimSpace(v)
			}
		}
		return ""
	}
	for _, key := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		have, err := strconv.ParseUint(get(key), 16, 64)
		if err != nil || have&^a.Capabilities != 0 {
			return fmt.Errorf("its capabilities (%s %s) are more than the container has", key, get(key))
		}
	}
	p := a.Spec.Process
	if p.NoNewPrivileges && get("NoNewPrivs") != "1" {
		return errors.New("it could get new privileges, which the container may not")
	}
	if a.Spec.Linux.Seccomp != nil && get("Seccomp") != "2" {
		return errors.New("it has no seccomp filter, which the container has")
	}
	if !p.NoNewPrivileges || a.Capabilities&(1<<6|1<<7) != 0 {
		return nil // it could have become anybody: by a program with the bit, or by setuid and setgid
	}
	groups := append([]uint32{p.User.GID}, p.User.AdditionalGids...)
	for key, may := range map[string][]uint32{"Uid": {p.User.UID}, "Gid": groups, "Groups": groups} {
		for w := range strings.FieldsSeq(get(key)) {
			if n, err := strconv.ParseUint(w, 10, 32); err != nil || !slices.Contains(may, uint32(n)) {
				return fmt.Errorf("it is %s %s, which the container's user is not", strings.ToLower(key), get(key))
			}
		}
	}
	return nil
}

// label holds the label of a security module against the request.
func (a *Allowed) label(pid int) error {
	for _, m := range []struct{ file, want string }{{"apparmor/current", a.Spec.Process.ApparmorProfile}, {"current", a.Spec.Process.SelinuxLabel}} {
		if m.want == "" || m.want == "unconfined" {
			continue
		}
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/attr/%s", pid, m.file))
		if err != nil && m.file != "current" {
			data, err = os.ReadFile(fmt.Sprintf("/proc/%d/attr/current", pid))
		}
		have, _, _ := strings.Cut(strings.TrimRight(string(data), "\x00\n"), " (")
		if err != nil || have != m.want {
			return fmt.Errorf("its label is %q, and not %q", have, m.want)
		}
	}
	return nil
}

// namespaces: those of the first process are new or the ones that it joins, and no other process is in one of the host's.
func (a *Allowed) namespaces(first, pid int) error {
	for _, kind := range namespaceKinds {
		have, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue // a kernel without
			}
			return err
		}
		leads, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", first, kind))
		if err != nil {
			return err
		}
		if pid != first && have == leads {
			continue
		}
		hosts, joined := a.hosts[kind], a.Joined[kind]
		switch {
		case slices.Contains(a.Host, kind) && have == hosts:
		case joined != "" && pid == first && !sameNamespace(pid, kind, joined):
			return fmt.Errorf("its %s namespace is not the one that the container joins", kind)
		case joined == "" && have == hosts:
			return fmt.Errorf("its %s namespace is the host's, and the container's is not", kind)
		}
	}
	return nil
}

func sameNamespace(pid int, kind, path string) bool {
	var a, b unix.Stat_t
	return unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), &a) == nil && unix.Stat(path, &b) == nil && a.Ino == b.Ino && a.Dev == b.Dev
}

// mounts: what is to be masked and write-protected is, and there is no mount that the container does not ask for, unless it
// could make such itself.
func (a *Allowed) mounts(mounts []mountLine) error {
	seen := func(at string) *mountLine {
		for i := len(mounts) - 1; i >= 0; i-- { // the last one on a place is what is seen
			if mounts[i].place == at {
				return &mounts[i]
			}
		}
		return nil
	}
	has := func(m *mountLine, word string) bool { return slices.Contains(strings.Split(m.options, ","), word) }
	l := a.Spec.Linux
	for _, at := range slices.Concat(l.MaskedPaths, l.ReadonlyPaths) {
		if _, err := os.Lstat(at); err != nil {
			continue
		}
		if m := seen(at); m == nil || !has(m, "ro") {
			return fmt.Errorf("%s is not masked or read-only, as the container has it", at)
		}
	}
	if m := seen("/"); m == nil || a.Spec.Root != nil && a.Spec.Root.Readonly && !has(m, "ro") {
		return errors.New("the root is not read-only, as the container has it")
	}
	if a.Capabilities&sysAdmin != 0 {
		return nil
	}
	for i := range mounts {
		m := &mounts[i]
		if m.place == "/" || slices.Contains(l.MaskedPaths, m.place) || slices.Contains(l.ReadonlyPaths, m.place) {
			continue
		}
		if m.place == "/dev/console" && m.fstype == "devpts" && a.Spec.Process.Terminal {
			continue
		}
		asked := a.asked(m.place)
		if asked == nil {
			return fmt.Errorf("there is a mount of %s on %s that the container does not ask for", m.fstype, m.place)
		}
		for _, word := range []string{"ro", "nosuid", "nodev", "noexec"} {
			if slices.Contains(asked.Options, word) && !has(m, word) {
				return fmt.Errorf("the mount on %s is not %s, as the container has it", m.place, word)
			}
		}
	}
	return nil
}

// asked is the mount of the configuration that one on a place is a part of: that itself, or what comes with a recursive bind or a set of cgroups.
func (a *Allowed) asked(at string) *oci.Mount {
	for i := range a.Spec.Mounts {
		m := &a.Spec.Mounts[i]
		dest := filepath.Clean("/" + m.Destination)
		if i < len(a.places) {
			dest = a.places[i].at
		}
		if dest == at || (isBind(*m) || strings.HasPrefix(m.Type, "cgroup")) && strings.HasPrefix(at, dest+"/") {
			return m
		}
	}
	return nil
}

// Magic numbers of criu's images.
const (
	imageMagic   = 0x54564319
	seccompMagic = 0x64413049
)

// VerifyFilters looks at the filters in a dump: the first of each chain must be the container's own, which every process has
// that has one at all. They cannot be read from restored processes, which criu traces until they run.
func VerifyFilters(dir string, own []unix.SockFilter) error {
	if own == nil {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(dir, "seccomp.img"))
	if err != nil {
		return fmt.Errorf("read the checkpoint's filters: %w", err)
	}
	var want bytes.Buffer
	for _, f := range own {
		if err := binary.Write(&want, binary.NativeEndian, f); err != nil {
			return err
		}
	}
	found, err := filters(data, func(filter []byte) bool { return bytes.Equal(filter, want.Bytes()) })
	if err != nil {
		return fmt.Errorf("read the checkpoint's filters: %w", err)
	}
	if !found {
		return errors.New("the checkpoint's seccomp filter is not the one that the container has")
	}
	return nil
}

// filters calls same for each filter that has none before it, and says whether there are some, and it was true of all.
func filters(image []byte, same func([]byte) bool) (bool, error) {
	if len(image) < 12 || binary.LittleEndian.Uint32(image) != imageMagic || binary.LittleEndian.Uint32(image[4:]) != seccompMagic {
		return false, errMessage
	}
	n, all := 0, true
	body := image[12:]
	if size := binary.LittleEndian.Uint32(image[8:]); uint64(size) != uint64(len(body)) {
		return false, errMessage
	}
	var bad error
	err := message(body).fields(func(field int, _ uint64, b []byte) {
		if field != 1 {
			return
		}
		var filter []byte
		chained := false
		bad = errors.Join(bad, message(b).fields(func(field int, _ uint64, b []byte) {
			switch field {
			case 1:
				filter = b
			case 2:
				chained = true
			}
		}))
		if !chained {
			n++
			all = all && same(filter)
		}
	})
	return n > 0 && all, errors.Join(err, bad)
}
