package snapshot

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/layer"
	"hull/oci"
)

// overlay is the driver of the file system of that name.
type overlay struct{ s *Store }

func (o *overlay) layered() bool              { return true }
func (o *overlay) whiteouts() layer.Whiteouts { return o.s.overlayWhiteouts() }

func (s *Store) overlayWhiteouts() layer.Whiteouts {
	if s.o.Rootless {
		return layer.OverlayUser
	}
	return layer.Overlay
}

// usable refuses what the kernel would mount and not keep its promises on, and
// what it would refuse only at a container's start.
func (o *overlay) usable(dir string) error {
	magic, err := o.s.o.fileSystem(dir)
	if err != nil {
		return err
	}
	switch magic {
	case magicNFS:
		return &hintError{fmt.Errorf("driver overlay: %s is on NFS, which cannot hold what overlay writes", dir),
			"take a store on a local disk by --root, or --storage-driver vfs"}
	case magicOverlay:
		return &hintError{fmt.Errorf("driver overlay: %s is on an overlay itself, which cannot hold what another writes", dir),
			"take a store on another file system (a volume) by --root, or --storage-driver vfs"}
	}
	return nil
}

func (o *overlay) create(path, _ string) error {
	if err := unix.Mkdir(path, 0o700); err != nil {
		return err
	}
	return unix.Chmod(path, untouched)
}

func (o *overlay) destroy(string) {}

func (o *overlay) active(dir, lower, options string) oci.Mount {
	upper := filepath.Join(dir, "u")
	if lower == "" {
		return oci.Mount{Type: "bind", Source: upper, Options: []string{"rbind"}}
	}
	opts := []string{"lowerdir=" + o.s.lowerDirs(lower), "upperdir=" + upper, "workdir=" + filepath.Join(dir, "w")}
	if options != "" {
		// Overlay refuses to mount what was once mounted so, since a power cut
		// may have damaged it; there was none if this file system says so.
		mark := filepath.Join(dir, "w/work/incompat/volatile")
		unix.Unlink(filepath.Join(mark, "dirty"))
		unix.Rmdir(mark)
		opts = append(opts, options)
	}
	return oci.Mount{Type: "overlay", Source: "overlay", Options: o.s.extra(opts)}
}

func (o *overlay) view(lower string) oci.Mount {
	dirs := o.s.lowerDirs(lower)
	if !strings.Contains(lower, ":") {
		return oci.Mount{Type: "bind", Source: dirs, Options: []string{"rbind", "ro"}}
	}
	return oci.Mount{Type: "overlay", Source: "overlay", Options: o.s.extra([]string{"lowerdir=" + dirs, "ro"})}
}

// ours are options that say what the upper directory holds. The module's
// parameters may turn them on for everybody; then it would hold files without
// their content (metacopy) and directories under other names (redirect_dir),
// which no layer can be made of, and a second mount of it would fail (index).
var ours = []string{"index=off", "metacopy=off", "redirect_dir=off"}

// extra adds the options that every overlay of the store has.
func (s *Store) extra(opts []string) []string {
	for _, m := range s.o.MountOptions {
		switch key, _, _ := strings.Cut(m, "="); key {
		case "index", "metacopy", "redirect_dir", "userxattr", "lowerdir", "upperdir", "workdir", "volatile":
		default:
			opts = append(opts, m)
		}
	}
	return append(opts, OverlayOptions(s.o.Rootless)...)
}

// OverlayOptions are what every overlay is mounted with, by root or by a user.
func OverlayOptions(rootless bool) []string {
	if rootless {
		// It turns the other two off, and old kernels refuse them beside it.
		return []string{"index=off", "userxattr"}
	}
	return slices.Clone(ours)
}

func (s *Store) lowerDirs(lower string) string {
	names := strings.Split(lower, ":")
	for i, n := range names {
		names[i] = filepath.Join(s.layerNamed(n), "d")
	}
	return strings.Join(names, ":")
}
