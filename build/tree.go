package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hull/containerfile"
	"hull/inroot"
	"hull/oci"
)

// A tree is a directory that COPY reads, held open: nothing in it leads out.
type tree struct {
	name   string   // for messages
	root   *os.File // nil is an empty one
	dir    string   // its path, "" when it has none
	chain  oci.Digest
	ignore *containerfile.Ignore
	// owned says that files keep their owners: a stage's and an image's do,
	// those of a context are root's.
	owned bool
	// sums are of a directory of the machine.
	sums *sumCache
	// commit is that of a repository.
	commit string
}

func (t *tree) close() {
	if t.root != nil {
		t.root.Close()
	}
	if t.sums != nil {
		t.sums.save()
	}
}

// openTree opens a directory of the machine.
func openTree(dir, name string) (*tree, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open the %s: %w", name, err)
	}
	f, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the %s: %w", name, err)
	}
	return &tree{name: name, root: f, dir: dir}, nil
}

// chainTree opens the file system of a chain.
func (b *building) chainTree(chain oci.Digest, name string) (*tree, error) {
	t := &tree{name: name, chain: chain, owned: true}
	if chain != "" {
		var err error
		if t.root, err = b.Snapshots.ViewTree(chain); err != nil {
			return nil, err
		}
	}
	b.keepTree(t)
	return t, nil
}

// keepTree has a tree closed at the end.
func (b *building) keepTree(t *tree) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trees = append(b.trees, t)
}

// treeOf is what "from" of COPY and of a mount means; "" is the context.
func (b *building) treeOf(ctx context.Context, s *containerfile.Stage, from string) (*tree, error) {
	if from == "" {
		if b.main == nil {
			return nil, errors.New("there is no context: it was standard input")
		}
		return b.main, nil
	}
	if t, ok := b.named[from]; ok {
		return t, nil
	}
	other, err := b.graph.Find(s, from)
	if err != nil {
		return nil, err
	}
	if other == nil && from == containerfile.Scratch {
		return &tree{name: from, owned: true}, nil
	}
	if other == nil {
		img, err := b.image(ctx, from, "")
		if err != nil {
			return nil, fmt.Errorf("%s is neither a stage nor an image: %w", from, err)
		}
		return b.chainTree(img.TopLayer(), "image "+from)
	}
	done, err := b.await(ctx, other)
	if err != nil {
		return nil, err
	}
	return b.chainTree(done.chain(), "stage "+other.Title())
}

// lstat looks at a path of a tree without following its last component.
// Components before it must not be links: resolve takes care of them.
func (t *tree) lstat(p string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if t.root == nil {
		if path.Clean("/"+p) == "/" {
			st.Mode = unix.S_IFDIR | 0o755
			return st, nil
		}
		return st, unix.ENOENT
	}
	f, err := inroot.Open(t.root, clean(p), unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return st, err
	}
	defer f.Close()
	return st, unix.Fstat(int(f.Fd()), &st)
}

// clean is a path relative to a root.
func clean(p string) string {
	if p = path.Clean("/" + p)[1:]; p == "" {
		return "."
	}
	return p
}

func isDir(st unix.Stat_t) bool  { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
func isLink(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFLNK }

// resolve follows the links in a path, all of them or all but the last
// component's, inside the tree; what does not exist is taken as it is written.
func (t *tree) resolve(p string, last bool) (string, error) {
	rest := strings.Split(path.Clean("/" + p)[1:], "/")
	at := "/"
	for hops := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, name)
		st, err := t.lstat(next)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return "", fmt.Errorf("look at %s in the %s: %w", next, t.name, err)
		}
		if err != nil || !isLink(st) || !last && len(rest) == 0 {
			at = next
			continue
		}
		if hops++; hops > 255 {
			return "", fmt.Errorf("resolve %s in the %s: %w", p, t.name, unix.ELOOP)
		}
		target, err := t.readlink(next)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

func (t *tree) readlink(p string) (string, error) {
	f, err := inroot.Open(t.root, clean(p), unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if err != nil {
		return "", fmt.Errorf("read link %s in the %s: %w", p, t.name, err)
	}
	return string(buf[:n]), nil
}

// list are the names in a directory, sorted.
func (t *tree) list(dir string) ([]string, error) {
	if t.root == nil {
		return nil, nil
	}
	d, err := inroot.Open(t.root, clean(dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// open opens a regular file.
func (t *tree) open(p string) (*os.File, error) {
	return inroot.Open(t.root, clean(p), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// copyFile makes a file of the machine with what one of the tree holds.
func (t *tree) copyFile(p, to string) error {
	in, err := t.open(p)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// ignored says whether a path is left out by the ignore file.
func (t *tree) ignored(p string) (bool, error) {
	if t.ignore == nil || clean(p) == "." {
		return false, nil
	}
	var parent containerfile.Parent
	out := false
	names := strings.Split(clean(p), "/")
	for i := range names {
		var err error
		if out, parent, err = t.ignore.Match(strings.Join(names[:i+1], "/"), parent); err != nil {
			return false, err
		}
	}
	return out, nil
}

// glob returns the paths that a source means: itself, or those that match its
// wildcards, of which "**" is every directory below where deep says so. What
// matches nothing may be the name of a file as it is.
func (t *tree) glob(pattern string, deep bool) ([]string, error) {
	pattern = path.Clean("/" + pattern)
	if !strings.ContainsAny(pattern, `*?[\`) {
		return []string{pattern}, nil
	}
	found := []string{"/"}
	for name := range strings.SplitSeq(pattern[1:], "/") {
		var next []string
		for _, dir := range found {
			if !strings.ContainsAny(name, `*?[\`) {
				next = append(next, path.Join(dir, name))
				continue
			}
			real, err := t.resolve(dir, true)
			if err != nil {
				return nil, err
			}
			more, err := t.matches(real, name, deep)
			if err != nil {
				return nil, err
			}
			for _, n := range more {
				next = append(next, path.Join(dir, n))
			}
		}
		found = next
	}
	if found = slices.DeleteFunc(found, t.lacks); len(found) == 0 && !t.lacks(pattern) {
		found = []string{pattern}
	}
	return found, nil
}

// lacks says whether a path is not in the tree, or is left out of it.
func (t *tree) lacks(p string) bool {
	real, err := t.resolve(p, true)
	if err == nil {
		_, err = t.lstat(real)
	}
	out, _ := t.ignored(p)
	return err != nil || out
}

// matches are the names in a directory that match a pattern; "**", if deep, is
// it and every directory below it.
func (t *tree) matches(dir, pattern string, deep bool) ([]string, error) {
	names, err := t.list(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	if deep && pattern == "**" {
		out = append(out, ".")
		for _, n := range names {
			if st, err := t.lstat(path.Join(dir, n)); err != nil || !isDir(st) {
				continue
			}
			more, err := t.matches(path.Join(dir, n), pattern, deep)
			if err != nil {
				return nil, err
			}
			for _, m := range more {
				out = append(out, path.Join(n, m))
			}
		}
		return out, nil
	}
	for _, n := range names {
		ok, err := path.Match(pattern, n)
		if err != nil {
			return nil, fmt.Errorf("pattern %s: %w", pattern, err)
		}
		if ok {
			out = append(out, n)
		}
	}
	return out, nil
}
