package engine

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hull/inroot"
	"hull/layer"
)

// A CopyEnd is one side of a copy between a container and the host: a path in
// a container, a path of the host, or a stream of tar.
type CopyEnd struct {
	Container string // name or ID; "" is the host
	Path      string
	// Stream, when not nil, is the archive itself: "-" on the command line.
	Stream any // io.Reader as a source, io.Writer as a destination
}

// Copy copies files as cp -a does between the two ends, with docker's rules:
// a directory goes into one that exists, DIR/. means what is in it, and a
// destination's directory must exist. In a container no path leads out of its
// root, whatever links there are (CP rows).
func (e *Engine) Copy(ctx context.Context, from, to CopyEnd, o CopyOptions) error {
	src, err := e.openEnd(ctx, from)
	if err != nil {
		return err
	}
	defer src.close()
	dst, err := e.openEnd(ctx, to)
	if err != nil {
		return err
	}
	defer dst.close()
	if w, ok := to.Stream.(io.Writer); ok {
		return src.write(ctx, w)
	}
	target, rename, err := dst.target(src, from.Stream != nil, o)
	if err != nil {
		return err
	}
	defer target.Close()
	if r, ok := from.Stream.(io.Reader); ok {
		return errors.Join(dst.apply(ctx, target, r, o), dst.sync())
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(src.writeAs(ctx, pw, rename)) }()
	err = dst.apply(ctx, target, pr, o)
	pr.CloseWithError(errors.New("the copy ended"))
	return errors.Join(err, dst.sync())
}

// A copySide is an opened end.
type copySide struct {
	root      *os.File // of the container, or of the host
	path      string   // absolute
	container bool
	stays     bool // and does not run, but is there after a reboot
	uid, gid  int  // who owns what arrives, inside when it is a container
	own       owners
}

// sync waits until the disk has what was copied into a container that does not
// run: the command says that it is there. (An overlay does the same when it is unmounted, a bind
// mount does not.)
func (c *copySide) sync() error {
	if !c.stays {
		return nil
	}
	return os.NewSyscallError("syncfs", unix.Syncfs(int(c.root.Fd())))
}

func (c *copySide) close() {
	if c.root != nil {
		c.root.Close()
	}
}

func (e *Engine) openEnd(ctx context.Context, end CopyEnd) (*copySide, error) {
	if end.Stream != nil && end.Container == "" {
		return &copySide{}, nil
	}
	if end.Container == "" {
		abs, err := filepath.Abs(end.Path)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(end.Path, "/") || strings.HasSuffix(end.Path, "/.") || end.Path == "." {
			abs += "/."
		}
		root, err := os.Open("/")
		if err != nil {
			return nil, err
		}
		return &copySide{root: root, path: abs, uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	r, s, err := e.open(ctx, end.Container)
	if err != nil {
		return nil, err
	}
	root, err := e.tree(r, s)
	if err != nil {
		return nil, err
	}
	p := end.Path
	if !path.IsAbs(p) {
		p = path.Join(workingDir(r), p) + trailing(p)
	}
	return &copySide{root: root, path: p, container: true, stays: !r.transient && !s.running(), uid: int(r.User.UID), gid: int(r.User.GID), own: r.owners()}, nil
}

// trailing keeps what path.Join drops and copying distinguishes.
func trailing(p string) string {
	if strings.HasSuffix(p, "/.") || p == "." {
		return "/."
	}
	if strings.HasSuffix(p, "/") {
		return "/"
	}
	return ""
}

// resolve is how paths of this side are opened: the host's links are the host's.
func (c *copySide) open(p string, flags int) (*os.File, error) {
	return inroot.Open(c.root, p, flags, 0)
}

func (c *copySide) stat(p string) (unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := c.open(p, unix.O_PATH)
	if err != nil {
		return st, err
	}
	defer f.Close()
	return st, unix.Fstat(int(f.Fd()), &st)
}

func isDir(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// target decides what the destination means: the directory to unpack into and
// the name that the source gets there ("" keeps what is in it).
func (c *copySide) target(src *copySide, stream bool, o CopyOptions) (dir *os.File, rename string, err error) {
	st, err := c.stat(c.path)
	exists := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("copy to %s: %w", c.path, err)
	}
	open := func(p string) (*os.File, error) {
		f, err := c.open(p, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return nil, fmt.Errorf("copy to %s: %w", p, err)
		}
		return f, nil
	}
	if stream {
		if !exists || !isDir(st) {
			return nil, "", fmt.Errorf("copy to %s: the destination of an archive must be a directory that exists", c.path)
		}
		dir, err = open(c.path)
		return dir, "", err
	}
	from, err := src.stat(src.path)
	if err != nil {
		return nil, "", fmt.Errorf("copy %s: %w", src.path, err)
	}
	contents := isDir(from) && (strings.HasSuffix(src.path, "/.") || strings.HasSuffix(src.path, "/./"))
	switch {
	case exists && isDir(st) && contents:
		dir, err = open(c.path)
		return dir, ".", err
	case exists && isDir(st):
		dir, err = open(c.path)
		return dir, path.Base(path.Clean(src.path)), err
	case exists && isDir(from) && !o.Overwrite:
		return nil, "", fmt.Errorf("copy %s to %s: a directory cannot replace a file", src.path, c.path)
	case !exists && strings.HasSuffix(c.path, "/") && !isDir(from):
		return nil, "", fmt.Errorf("copy to %s: the directory does not exist: %w", c.path, fs.ErrNotExist)
	}
	clean := path.Clean(c.path)
	dir, err = open(path.Dir(clean))
	return dir, path.Base(clean), err
}

// write writes this side as an archive named by its last element.
func (c *copySide) write(ctx context.Context, w io.Writer) error {
	name := path.Base(path.Clean(c.path))
	if strings.HasSuffix(c.path, "/.") {
		name = "."
	}
	return c.writeAs(ctx, w, name)
}

// writeAs writes the file or directory at the path under another name; "." is
// what is in a directory. The owners are a container's own ids.
func (c *copySide) writeAs(ctx context.Context, w io.Writer, name string) error {
	if c.own.none() {
		return c.writeRaw(ctx, w, name)
	}
	return mapped(w, c.own.toLayer, func(w io.Writer) error { return c.writeRaw(ctx, w, name) })
}

func (c *copySide) writeRaw(ctx context.Context, w io.Writer, name string) error {
	clean := path.Clean(c.path)
	f, err := c.open(clean, unix.O_PATH)
	if err != nil {
		return fmt.Errorf("copy %s: %w", c.path, err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if !isDir(st) {
		return c.writeFile(ctx, w, clean, name)
	}
	dir, err := c.open(clean, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("copy %s: %w", c.path, err)
	}
	defer dir.Close()
	return renameTar(ctx, w, name, func(w io.Writer) error { return layer.WriteTree(ctx, w, dir) }, &st)
}

// writeFile writes one file.
func (c *copySide) writeFile(ctx context.Context, w io.Writer, clean, name string) error {
	parent, err := c.open(path.Dir(clean), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("copy %s: %w", c.path, err)
	}
	defer parent.Close()
	base := path.Base(clean)
	return renameTar(ctx, w, name, func(w io.Writer) error {
		return layer.WriteChanges(ctx, w, parent, []layer.Change{{Kind: layer.Added, Path: "/" + base}})
	}, nil)
}

// renameTar passes an archive on with its names below, or as, name. top, when
// not nil, is the directory itself, which is written first.
func renameTar(ctx context.Context, w io.Writer, name string, write func(io.Writer) error, top *unix.Stat_t) error {
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(write(pw)) }()
	defer pr.CloseWithError(errors.New("the copy ended"))
	in, out := tar.NewReader(pr), tar.NewWriter(w)
	if top != nil && name != "." {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(top.Mode & 0o7777), Uid: int(top.Uid), Gid: int(top.Gid), Format: tar.FormatPAX}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
	}
	for {
		h, err := in.Next()
		if err == io.EOF {
			return out.Close()
		}
		if err != nil {
			return err
		}
		if top == nil {
			h.Name = name
		} else {
			h.Name = path.Join(name, h.Name) + trailing(h.Name)
			if h.Typeflag == tar.TypeLink {
				h.Linkname = path.Join(name, h.Linkname)
			}
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}

// apply unpacks into an open directory, with the owner that the side wants.
func (c *copySide) apply(ctx context.Context, dir *os.File, r io.Reader, o CopyOptions) error {
	change := func(h *tar.Header) {
		if !o.Archive {
			h.Uid, h.Gid, h.Uname, h.Gname = c.uid, c.gid, "", ""
		}
		if !c.own.none() {
			c.own.toDisk(h)
		}
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(mapTar(pw, r, change)) }()
	err := layer.Apply(ctx, dir, pr, layer.ApplyOptions{Plain: true})
	pr.CloseWithError(errors.New("the copy ended"))
	return err
}
