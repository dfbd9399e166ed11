package build

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hull/containerfile"
)

// PackOptions for PackContext.
type PackOptions struct {
	Prefix string // directory of the archive
	// Containerfile is the name by which an ignore file of its own is found.
	Containerfile string
	IgnoreFile    string // instead of the context's own
	All           bool   // nothing is ignored
}

// PackContext writes what a build reads of a context directory into an archive:
// files, directories and links, whoever they belong to. What it leaves out is
// what the ignore file says, so the reader needs none.
func PackContext(ctx context.Context, w *tar.Writer, dir string, o PackOptions) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the context: %w", err)
	}
	defer root.Close()
	var ignore *containerfile.Ignore
	if !o.All {
		if ignore, err = findIgnore(dir, o.Containerfile, o.IgnoreFile); err != nil {
			return err
		}
	}
	p := &packer{ctx, w, root, o.Prefix, ignore}
	return p.directory(".", containerfile.Parent{})
}

type packer struct {
	ctx    context.Context
	w      *tar.Writer
	root   *os.Root
	prefix string
	ignore *containerfile.Ignore
}

func (p *packer) directory(dir string, parent containerfile.Parent) error {
	entries, err := fs.ReadDir(p.root.FS(), dir)
	if err != nil {
		return fmt.Errorf("read the context: %w", err)
	}
	for _, e := range entries {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		name := path.Join(dir, e.Name())
		out, here, err := p.ignore.Match(name, parent)
		if err != nil {
			return err
		}
		if out && !(e.IsDir() && p.ignore.Below(name)) {
			continue
		}
		if err := p.entry(name); err != nil {
			return fmt.Errorf("pack %s: %w", filepath.Join(p.root.Name(), name), err)
		}
		if e.IsDir() {
			if err := p.directory(name, here); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry writes one file. Sockets, devices and pipes are no part of a context.
func (p *packer) entry(name string) error {
	st, err := p.root.Lstat(name)
	if err != nil {
		return err
	}
	target := ""
	if st.Mode()&fs.ModeSymlink != 0 {
		if target, err = p.root.Readlink(name); err != nil {
			return err
		}
	} else if !st.Mode().IsRegular() && !st.IsDir() {
		return nil
	}
	h, err := tar.FileInfoHeader(st, target)
	if err != nil {
		return err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname, h.Format = path.Join(p.prefix, name), 0, 0, "", "", tar.FormatPAX
	if !st.Mode().IsRegular() {
		return p.w.WriteHeader(h)
	}
	f, err := p.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.w.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(p.w, io.LimitReader(f, h.Size))
	if err == nil && n < h.Size {
		err = fmt.Errorf("it became shorter while it was read: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// IsLocal says whether a context is a directory of this machine.
func IsLocal(where string) bool { return where != "-" && !isGit(where) && !isHTTP(where) }
