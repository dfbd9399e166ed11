package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// ViewPath returns the read-only mount of one path in a committed layer: what
// ViewMounts is for "/". No component of the path may be a link. The mount
// needs no attaching of the whole tree: the path's own directories are laid
// over each other.
func (s *Store) ViewPath(chain oci.Digest, path string) (oci.Mount, error) {
	path = filepath.Clean("/" + path)
	if path == "/" {
		m, err := s.ViewMounts(chain)
		if err != nil {
			return oci.Mount{}, err
		}
		return m[0], nil
	}
	fail := func(err error) (oci.Mount, error) {
		return oci.Mount{}, fmt.Errorf("mount %s of layer %s: %w", path, chain, err)
	}
	if err := chain.Validate(); err != nil {
		return fail(err)
	}
	lower, err := s.lower(chain)
	if err != nil {
		return fail(err)
	}
	var dirs []string
	for _, name := range s.stack(lower) {
		at, kind, err := s.lookInLayer(filepath.Join(s.layerNamed(name), "d"), path)
		if err != nil {
			return fail(err)
		}
		if kind&found != 0 {
			if kind&directory == 0 {
				if len(dirs) > 0 {
					break // a directory hides it
				}
				return oci.Mount{Type: "bind", Source: at, Options: []string{"bind", "ro"}}, nil
			}
			dirs = append(dirs, at)
		}
		if kind&last != 0 {
			break
		}
	}
	switch len(dirs) {
	case 0:
		return fail(fs.ErrNotExist)
	case 1:
		return oci.Mount{Type: "bind", Source: dirs[0], Options: []string{"rbind", "ro"}}, nil
	}
	return oci.Mount{Type: "overlay", Source: "overlay", Options: s.extra([]string{"lowerdir=" + strings.Join(dirs, ":"), "ro"})}, nil
}

// What lookInLayer found.
const (
	found     = 1 << iota // the path is in this layer
	directory             // it is a directory
	last                  // nothing of it shows through from below
)

// lookInLayer looks for a path in the files of one layer.
func (s *Store) lookInLayer(root, path string) (at string, kind int, err error) {
	at = root
	attr := s.whiteouts()
	names := strings.Split(path[1:], "/")
	for i, name := range names {
		at = filepath.Join(at, name)
		var st unix.Stat_t
		err := unix.Lstat(at, &st)
		switch {
		case errors.Is(err, unix.ENOENT):
			return "", kind, nil
		case err != nil:
			return "", 0, err
		case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
			return "", last, nil
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			var b [4]byte
			if n, err := unix.Lgetxattr(at, attr.OpaqueXattr(), b[:]); err == nil && n == 1 && b[0] == 'y' {
				kind |= last
			}
		case i < len(names)-1:
			return "", last, nil // a file where a directory would have to be
		default:
			return at, found | last, nil
		}
	}
	return at, kind | found | directory, nil
}
