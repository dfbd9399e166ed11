package lsm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	selinuxfs = "/sys/fs/selinux"
	// xattr holds a file's label.
	xattr = "security.selinux"
)

// Enabled says whether the kernel's SELinux has a policy: one call. A directory
// that only looks like it does not count.
func Enabled() bool {
	var st unix.Statfs_t
	return unix.Statfs(selinuxfs, &st) == nil && st.Type == unix.SELINUX_MAGIC
}

// Enforcing says whether what the policy does not allow is refused, too.
func Enforcing() bool {
	data, err := os.ReadFile(selinuxfs + "/enforce")
	return err == nil && strings.TrimSpace(string(data)) == "1"
}

// A Policy is what the host's policy says of containers.
type Policy struct {
	Process string // of a container's processes
	File    string // of its files
	Init    string // of an init system in a container, "" when it has none
}

// LoadPolicy reads what the policy that dir names (/etc/selinux) says.
func LoadPolicy(dir string) (Policy, error) {
	kind := "targeted"
	data, err := os.ReadFile(filepath.Join(dir, "config"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Policy{}, fmt.Errorf("read SELinux's configuration: %w", err)
	}
	if v := settings(data)["SELINUXTYPE"]; v != "" {
		kind = v
	}
	if kind != filepath.Base(kind) {
		return Policy{}, fmt.Errorf("read SELinux's configuration: SELINUXTYPE %q is no name", kind)
	}
	file := filepath.Join(dir, kind, "contexts", "lxc_contexts")
	if data, err = os.ReadFile(file); err != nil {
		return Policy{}, fmt.Errorf("read the policy's labels of containers: %w", err)
	}
	s := settings(data)
	p := Policy{Process: s["process"], File: s["file"], Init: s["init_process"]}
	if p.Process == "" || p.File == "" {
		return Policy{}, fmt.Errorf("read the policy's labels of containers: %s names no process or no file", file)
	}
	return p, nil
}

// settings reads lines of NAME = VALUE, where the value may stand in quotes.
func settings(data []byte) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		k, v, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		out[strings.TrimSpace(k)] = strings.Trim(strings.TrimSpace(v), `"`)
	}
	return out
}

// Check asks the kernel whether the loaded policy knows a label. One that may
// not be asked about is taken for good: setting it shows the truth.
func Check(label string) error {
	f, err := os.OpenFile(selinuxfs+"/context", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if _, err = f.Write([]byte(label)); errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("label %s: the policy does not know it", label)
	}
	return nil
}
