package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrTooLarge reports a layer that exceeds a bound of ApplyOptions.
var ErrTooLarge = errors.New("the layer is larger than allowed")

// ApplyOptions say how Apply unpacks.
type ApplyOptions struct {
	Whiteouts Whiteouts
	// MaxSize and MaxFiles bound what one layer may unpack to; 0 is no bound (a tar bomb, see STO-05).
	MaxSize, MaxFiles int64
	// IgnoreChown keeps the caller's owner for everything (a store without subordinate ids).
	IgnoreChown bool
	// Plain unpacks an archive that is no layer: names of whiteouts are names.
	Plain bool
	// Implicit is called at the end with each directory that had to be made
	// although the layer does not list it ("" is the root). Such a directory is
	// the one below, changed; nil leaves it 0755.
	Implicit func(path string)
}

const (
	maxPath    = unix.PathMax - 1
	maxDepth   = 512      // directories are held open
	maxPadding = 64 << 20 // behind the end of the archive
	maxImplied = 16 << 20 // bytes of names of directories that are not listed
	copyBuffer = 256 << 10
)

// Apply unpacks the uncompressed tar r into the directory root is open on, and
// reads r to its end, padding too, so that a digest taken of it is that of the layer.
//
// A failed Apply leaves what it had unpacked; the caller removes the directory.
// Devices are left out where the caller may not make them. Extended attributes
// other than user.*, security.capability and POSIX access lists are left out, and
// so are overlay's own.
func Apply(ctx context.Context, root *os.File, r io.Reader, o ApplyOptions) error {
	a := &applier{
		ctx: ctx, o: o, in: &contextReader{ctx: ctx, r: r},
		uid: os.Geteuid(), gid: os.Getegid(), buf: make([]byte, copyBuffer),
	}
	a.tr = tar.NewReader(a.in)
	if o.Whiteouts == Delete {
		a.made, a.seed = make(map[uint64]struct{}), maphash.MakeSeed()
	}
	if err := a.dirs.open(int(root.Fd())); err != nil {
		return fmt.Errorf("unpack layer: open root: %w", err)
	}
	err := a.run()
	if cerr := a.dirs.close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = a.drain()
	}
	if err != nil {
		return fmt.Errorf("unpack layer: %w", err)
	}
	return nil
}

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
	n   int64 // bytes read
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// An applier is one Apply.
type applier struct {
	ctx      context.Context // only of this one call
	o        ApplyOptions
	in       *contextReader
	tr       *tar.Reader
	dirs     dirStack
	uid, gid int
	buf      []byte
	size     int64
	files    int64
	sawRoot  bool

	implied     map[string]struct{} // directories that were made and not listed yet
	impliedSize int

	// made are the paths of this layer, hashed, since a whiteout is for the layers
	// below only. A set of hashes stays small also for a million long names; the
	// seed is secret, so nobody can make two names collide. nil unless Delete.
	made map[uint64]struct{}
	seed maphash.Seed
}

func (a *applier) run() error {
	for {
		h, err := a.tr.Next()
		if err == io.EOF {
			// archive/tar takes an end within a long name's or attribute's record
			// for that of the archive.
			if a.in.n%512 != 0 {
				return fmt.Errorf("read archive: %w", io.ErrUnexpectedEOF)
			}
			a.reportImplied()
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if err := a.entry(h); err != nil {
			return fmt.Errorf("%s: %w", printable(h.Name), err)
		}
	}
}

// printable bounds a hostile name in an error text.
func printable(name string) string {
	if len(name) > 200 {
		name = name[:200] + "…"
	}
	return fmt.Sprintf("%q", name)
}

// drain reads what follows the archive.
func (a *applier) drain() error {
	n, err := io.CopyBuffer(io.Discard, io.LimitReader(a.in, maxPadding+1), a.buf)
	if err == nil && n > maxPadding {
		err = fmt.Errorf("%w: more than %d bytes follow the archive", ErrTooLarge, maxPadding)
	}
	return err
}

// imply notes a directory that the layer does not list.
func (a *applier) imply(path string) error {
	if err := a.countFile(); err != nil || a.o.Implicit == nil {
		return err
	}
	if a.implied == nil {
		a.implied = make(map[string]struct{})
	}
	if _, ok := a.implied[path]; ok {
		return nil
	}
	a.implied[path] = struct{}{}
	if a.impliedSize += len(path); a.impliedSize > maxImplied {
		return fmt.Errorf("%w: more than %d bytes of names of directories that it does not list", ErrTooLarge, maxImplied)
	}
	return nil
}

// listed takes the top directory from those that are not.
func (a *applier) listed() {
	if len(a.implied) > 0 {
		delete(a.implied, a.dirs.path())
	}
}

func (a *applier) reportImplied() {
	if a.o.Implicit == nil {
		return
	}
	for _, path := range slices.Sorted(maps.Keys(a.implied)) {
		a.o.Implicit(path)
	}
	if !a.sawRoot {
		a.o.Implicit("")
	}
}

func (a *applier) countFile() error {
	if a.files++; a.o.MaxFiles > 0 && a.files > a.o.MaxFiles {
		return fmt.Errorf("%w: more than %d entries", ErrTooLarge, a.o.MaxFiles)
	}
	return nil
}

// count holds the layer against its bounds.
func (a *applier) count(h *tar.Header) error {
	if err := a.countFile(); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeGNUSparse {
		return nil
	}
	// A sparse file counts with its holes: reading them takes time, if not space.
	if a.o.MaxSize > 0 && h.Size > a.o.MaxSize-a.size {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, a.o.MaxSize)
	}
	a.size += h.Size
	return nil
}

// splitName makes the name of an entry a list of names below the root: none
// for the root itself.
func splitName(name string, parts []string) ([]string, error) {
	if len(name) > maxPath {
		return nil, unix.ENAMETOOLONG
	}
	if strings.IndexByte(name, 0) >= 0 {
		return nil, errors.New("a name with a zero byte")
	}
	parts = parts[:0]
	for rest, more := name, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		switch part {
		case "", ".":
		case "..":
			return nil, errors.New("a name with .. in it")
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) > maxDepth {
		return nil, fmt.Errorf("more than %d directories deep", maxDepth)
	}
	return parts, nil
}

func (a *applier) entry(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if err := a.count(h); err != nil {
		return err
	}
	parts, err := splitName(h.Name, a.dirs.parts)
	if err != nil {
		return err
	}
	a.dirs.parts = parts // its memory is used again
	if len(parts) == 0 {
		return a.root(h)
	}
	dir, base := parts[:len(parts)-1], parts[len(parts)-1]
	if a.o.Plain {
		if err := a.enter(dir); err != nil {
			return err
		}
		return a.make(base, h)
	}
	for _, p := range dir {
		if strings.HasPrefix(p, metaPrefix) {
			return nil // of aufs
		}
		if strings.HasPrefix(p, whiteoutPrefix) {
			return errors.New("a whiteout is no directory")
		}
	}
	if strings.HasPrefix(base, metaPrefix) && base != opaqueName {
		return nil
	}
	if err := a.enter(dir); err != nil {
		return err
	}
	if base == opaqueName {
		return a.opaque()
	}
	if name, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
		return a.whiteout(name)
	}
	a.mark(parts)
	return a.make(base, h)
}

// root is the entry "./".
func (a *applier) root(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return errors.New("the root of a layer is a directory")
	}
	a.sawRoot = true
	if err := a.enter(nil); err != nil {
		return err
	}
	return a.finishDir(h)
}

// make makes the entry base in the directory that was entered.
func (a *applier) make(base string, h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return a.file(base, h)
	case tar.TypeDir:
		return a.dir(base, h)
	case tar.TypeSymlink:
		return a.symlink(base, h)
	case tar.TypeLink:
		return a.link(base, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return a.node(base, h)
	}
	return fmt.Errorf("entries of type %q are not for a layer", h.Typeflag)
}
