package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"hull/inroot"
)

// Compare lists what differs from one tree to another, sorted by path; from may
// be nil, which is empty. Of a deleted directory only the top is listed. Two
// files are the same when everything but their content is: kind, mode, owner,
// size, time, device, link.
func Compare(ctx context.Context, from, to *os.File) ([]Change, error) {
	c := comparer{ctx: ctx, from: from, to: to}
	if err := c.directory("/"); err != nil {
		return nil, fmt.Errorf("compare trees: %w", err)
	}
	slices.SortFunc(c.out, func(a, b Change) int { return compareText(a.Path, b.Path) })
	return c.out, nil
}

func compareText(a, b string) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

type comparer struct {
	ctx      context.Context
	from, to *os.File
	out      []Change
}

func (c *comparer) add(k Kind, p string) { c.out = append(c.out, Change{k, p}) }

// directory compares what two directories of one path hold.
func (c *comparer) directory(dir string) error {
	if err := c.ctx.Err(); err != nil {
		return context.Cause(c.ctx)
	}
	old, err := list(c.from, dir)
	if err != nil {
		return err
	}
	now, err := list(c.to, dir)
	if err != nil {
		return err
	}
	for name := range old {
		if _, ok := now[name]; !ok {
			c.add(Deleted, path.Join(dir, name))
		}
	}
	for name, st := range now {
		p := path.Join(dir, name)
		before, ok := old[name]
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		switch {
		case !ok:
			c.add(Added, p)
			if isDir {
				sub := comparer{ctx: c.ctx, to: c.to}
				if err := sub.directory(p); err != nil {
					return err
				}
				c.out = append(c.out, sub.out...)
			}
			continue
		case st.Mode&unix.S_IFMT != before.Mode&unix.S_IFMT:
			c.add(Modified, p)
			if isDir {
				sub := comparer{ctx: c.ctx, to: c.to}
				if err := sub.directory(p); err != nil {
					return err
				}
				c.out = append(c.out, sub.out...)
			}
			continue
		case !same(before, st):
			c.add(Modified, p)
		}
		if isDir {
			if err := c.directory(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// same compares two files of one kind; a directory's size and time follow from
// what it holds.
func same(a, b unix.Stat_t) bool {
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev {
		return false
	}
	if a.Mode&unix.S_IFMT == unix.S_IFDIR {
		return true
	}
	return a.Size == b.Size && a.Mtim == b.Mtim
}

// list returns a directory's entries by name; nil for no tree, and none where
// the path is no directory.
func list(root *os.File, dir string) (map[string]unix.Stat_t, error) {
	if root == nil {
		return nil, nil
	}
	d, err := inroot.Open(root, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	out := make(map[string]unix.Stat_t, len(names))
	for _, n := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(int(d.Fd()), n, &st, unix.AT_SYMLINK_NOFOLLOW); err == unix.ENOENT {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("look at %s: %w", path.Join(dir, n), err)
		}
		out[n] = st
	}
	return out, nil
}

// Upper lists what the upper directory of an overlay changes above base, the
// tree below it (nil: empty), sorted by path.
func Upper(ctx context.Context, upper, base *os.File, w Whiteouts) ([]Change, error) {
	u := upperWalk{comparer: comparer{ctx: ctx, from: base, to: upper}, attr: "trusted.overlay.opaque"}
	if w == OverlayUser {
		u.attr = "user.overlay.opaque"
	}
	if err := u.directory("/", base != nil); err != nil {
		return nil, fmt.Errorf("list changes: %w", err)
	}
	slices.SortFunc(u.out, func(a, b Change) int { return compareText(a.Path, b.Path) })
	return u.out, nil
}

type upperWalk struct {
	comparer
	attr string
}

// directory lists one; merged says that the base's directory shows through.
func (u *upperWalk) directory(dir string, merged bool) error {
	if err := u.ctx.Err(); err != nil {
		return context.Cause(u.ctx)
	}
	now, err := list(u.to, dir)
	if err != nil {
		return err
	}
	var old map[string]unix.Stat_t
	if u.from != nil {
		if old, err = list(u.from, dir); err != nil {
			return err
		}
	}
	opaque, err := u.opaque(dir)
	if err != nil {
		return err
	}
	if opaque || !merged {
		for name := range old {
			if _, ok := now[name]; !ok && dir != "/" {
				u.add(Deleted, path.Join(dir, name))
			}
		}
	}
	for name, st := range now {
		p := path.Join(dir, name)
		before, was := old[name]
		kind := Added
		if was {
			kind = Modified
		}
		if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
			if was {
				u.add(Deleted, p)
			}
			continue
		}
		wasDir := was && before.Mode&unix.S_IFMT == unix.S_IFDIR
		u.add(kind, p)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := u.directory(p, wasDir); err != nil {
				return err
			}
		}
	}
	return nil
}

func (u *upperWalk) opaque(dir string) (bool, error) {
	d, err := inroot.Open(u.to, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false, err
	}
	defer d.Close()
	var b [4]byte
	n, err := unix.Fgetxattr(int(d.Fd()), u.attr, b[:])
	return err == nil && n == 1 && (b[0] == 'y' || b[0] == 'x'), nil
}

// SameDirectory says whether path is a directory of both trees, with the same
// mode and owner.
func SameDirectory(a, b *os.File, path string) bool {
	var st [2]unix.Stat_t
	for i, root := range []*os.File{a, b} {
		f, err := inroot.Open(root, path, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err != nil {
			return false
		}
		err = unix.Fstat(int(f.Fd()), &st[i])
		f.Close()
		if err != nil || st[i].Mode&unix.S_IFMT != unix.S_IFDIR {
			return false
		}
	}
	return same(st[0], st[1])
}
