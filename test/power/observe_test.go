package power

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary also looks at a store, as a process of its own with mounts of
// its own: what it mounts ends with it.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "power-observe" {
		if err := observeMain(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if built {
		bin, _ := buildOnce()
		os.RemoveAll(bin)
	}
	os.Exit(code)
}

// A look is what a store is looked at for.
type look struct {
	Hull     string
	Registry string
	// Kind and Disk are what is mounted at Dir first; Boot is the name of a boot
	// that has only now begun. All are empty for a store that was not cut.
	Kind, Disk, Dir, Boot string
	Root, Run, Driver     string
	// Only are the kinds of objects to look at; "" is all of them, and a check.
	Only string
}

// observe returns how each object is: a fingerprint, "absent", or an error; and
// under "check" what system check says.
func (s *scene) observe(l look) (map[string]string, error) {
	l.Hull, l.Registry = s.hull, s.registry
	text, _ := json.Marshal(l)
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(self, "power-observe", string(text))
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, errs.String())
	}
	seen := map[string]string{}
	return seen, json.Unmarshal(out.Bytes(), &seen)
}

// mountOptions of a cut disk: the one it was cut of is mounted as well, and xfs
// does not take two of one identity.
var mountOptions = map[string]string{"ext4": "loop", "xfs": "loop,nouuid"}

func observeMain(text string) error {
	var l look
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return err
	}
	if l.Boot != "" {
		file := filepath.Join(l.Run, "boot_id")
		if err := os.WriteFile(file, []byte(l.Boot+"\n"), 0o600); err != nil {
			return err
		}
		if err := unix.Mount(file, "/proc/sys/kernel/random/boot_id", "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("another boot: %w", err)
		}
	}
	if l.Disk != "" {
		if out, err := exec.Command("mount", "-t", l.Kind, "-o", mountOptions[l.Kind], l.Disk, l.Dir).CombinedOutput(); err != nil {
			return fmt.Errorf("mount: %w: %s", err, out)
		}
		defer exec.Command("umount", "-R", l.Dir).Run()
		l.Root = filepath.Join(l.Dir, "root")
	}
	seen := map[string]string{}
	for _, o := range objects {
		if l.Only == "" || strings.Contains(l.Only, o.kind) {
			seen[o.String()] = l.fingerprint(o)
		}
	}
	if l.Only == "" || l.Only == "pod" {
		l.check(seen)
	}
	return json.NewEncoder(os.Stdout).Encode(seen)
}

func (l look) check(seen map[string]string) {
	seen["check"] = "clean"
	if out, err := l.command("system", "check", "--repair").CombinedOutput(); err != nil || len(out) > 0 {
		seen["repaired"] = fmt.Sprint(err, ": ", string(out))
		if out, err := l.command("system", "check").CombinedOutput(); err != nil {
			seen["check"] = fmt.Sprint(err, ": ", string(out))
		}
	}
}

func (l look) command(args ...string) *exec.Cmd {
	return exec.Command(l.Hull, append(store{l.Root, l.Run, l.Driver}.flags(), args...)...)
}

func (l look) say(args ...string) (string, string) {
	c := l.command(args...)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return "", fmt.Sprintf("%v: %s", err, errs.String())
	}
	return strings.TrimSpace(string(out)), ""
}

// inspections say of each kind how it is looked at; the pod and the network
// have nothing that is mounted.
var inspections = map[string][]string{
	"image":     {"image", "inspect", "--format", "{{json .Config.Cmd}} {{json .Config.Env}}"},
	"container": {"container", "inspect", "--format", "{{.ImageName}} {{json .Config.Cmd}} {{.State.Status}}"},
	"volume":    {"volume", "inspect", "--format", "{{.Name}} {{.Driver}}"},
	"secret":    {"secret", "inspect", "--showsecret", "--format", "{{.Spec.Name}} {{.SecretData}}"},
	"network":   {"network", "inspect", "--format", "{{.Name}} {{.Driver}} {{json .Subnets}}"},
	"pod":       {"pod", "inspect", "--format", "{{.Name}} {{.State}}"},
}

func (l look) fingerprint(o object) string {
	name := strings.ReplaceAll(o.name, "REGISTRY", l.Registry)
	text, bad := l.say(append(inspections[o.kind], name)...)
	if bad != "" {
		for _, none := range []string{"no such", "not found", "not known", "no container with", "no volume with", "no pod with", "no secret with", "unable to find"} {
			if strings.Contains(strings.ToLower(bad), none) {
				return "absent"
			}
		}
		return "damaged: " + bad
	}
	dir := ""
	switch o.kind {
	case "image":
		dir, bad = l.say("image", "mount", name)
		defer l.say("image", "unmount", name)
	case "container":
		dir, bad = l.say("mount", name)
		defer l.say("unmount", name)
	case "volume":
		dir, bad = l.say("volume", "inspect", "--format", "{{.Mountpoint}}", name)
	}
	if bad != "" {
		return "damaged: " + bad
	}
	if dir != "" {
		sum, err := treeSum(dir)
		if err != nil {
			return "damaged: " + err.Error()
		}
		text += " " + sum
	}
	return strings.ReplaceAll(text, l.Registry, "REGISTRY")
}

// treeSum is a digest of all files' names, kinds, modes, owners and bytes.
func treeSum(dir string) (string, error) {
	h := sha256.New()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		rel, _ := filepath.Rel(dir, path)
		size := fi.Size()
		if d.IsDir() {
			size = 0
		}
		fmt.Fprintf(h, "%s %o %d %d %d\n", rel, st.Mode, st.Uid, st.Gid, size)
		files++
		switch {
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			fmt.Fprintln(h, to)
			return err
		case d.Type().IsRegular():
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(h, f)
			return err
		}
		return nil
	})
	return fmt.Sprintf("%d files %x", files, h.Sum(nil)[:8]), err
}
