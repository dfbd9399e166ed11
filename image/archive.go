package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"hull/oci"
	"hull/state"
)

// A Source is where Load reads from.
type Source struct {
	// Path is a file, or a directory for the formats that are one.
	Path string
	// Reader is read when Path is empty.
	Reader io.Reader
}

// files are the files of an archive by their names in it. A name is only
// looked up, never made into a path of the file system that could lead out.
type files interface {
	// open returns the regular file of that name; fs.ErrNotExist when there is none.
	open(name string) (file, error)
	Close() error
}

// A file of an archive. Closing it is needed for those of directories.
type file struct {
	io.ReadSeeker
	io.Closer
	size int64
}

// readSmall reads a file of JSON whole (REG-07).
func readSmall(a files, name string) ([]byte, error) {
	f, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.size > oci.MaxManifestSize {
		return nil, fmt.Errorf("read %s: %d bytes are more than %d", name, f.size, oci.MaxManifestSize)
	}
	data := make([]byte, f.size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// openSource opens an archive, compressed or not, or a directory.
func (s *Store) openSource(ctx context.Context, src Source) (files, error) {
	if src.Path == "" {
		return s.spool(ctx, src.Reader)
	}
	fi, err := os.Stat(src.Path)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	if fi.IsDir() {
		return openDir(src.Path)
	}
	f, err := os.Open(src.Path)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	begin := make([]byte, 6)
	n, err := f.ReadAt(begin, 0)
	if fi.Mode().IsRegular() && (err == nil || err == io.EOF) && DetectCompression(begin[:n]) == Uncompressed {
		a, err := indexTar(f, fi.Size())
		if err != nil {
			f.Close()
			return nil, err
		}
		return a, nil
	}
	defer f.Close()
	return s.spool(ctx, f)
}

// spool keeps a stream in a nameless file below the store, uncompressed: what
// comes first in an archive may need what comes last.
func (s *Store) spool(ctx context.Context, r io.Reader) (files, error) {
	z, _, err := Decompress(s.Codec, contextReader{ctx, r})
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	defer z.Close()
	f, err := s.tempFile()
	if err != nil {
		return nil, err
	}
	n, err := io.CopyBuffer(f, z, make([]byte, 1<<20))
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read archive: %w", err)
	}
	a, err := indexTar(f, n)
	if err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

// tempFile is a file below the store that has no name (STO-01) and vanishes
// when it is closed.
func (s *Store) tempFile() (*os.File, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make temporary file: %w", err)
	}
	return state.TempFile(s.dir)
}

// maxEntries is more than any archive has; it bounds the index's memory.
const maxEntries = 1 << 17

// A tarFiles is a tar whose entries were looked up once.
type tarFiles struct {
	f       *os.File
	entries map[string]tarEntry
}

type tarEntry struct {
	offset, size int64
	link         string // to another entry, cleaned
}

var errNoArchive = errors.New("payload does not match any of the supported image formats: oci, oci-archive, docker-dir, docker-archive")

// indexTar reads the headers of a tar.
func indexTar(f *os.File, size int64) (*tarFiles, error) {
	in := io.NewSectionReader(f, 0, size)
	t := tar.NewReader(in)
	a := &tarFiles{f, map[string]tarEntry{}}
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read archive: %w: %w", errNoArchive, err)
		}
		if len(a.entries) >= maxEntries {
			return nil, fmt.Errorf("read archive: it has more than %d entries", maxEntries)
		}
		// archive/tar reads whole blocks and nothing ahead, so this is where
		// the entry's content begins.
		offset, err := in.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, fmt.Errorf("read archive: %w", err)
		}
		if err := a.add(h, offset, size); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *tarFiles) add(h *tar.Header, offset, size int64) error {
	name := clean(h.Name)
	e := tarEntry{offset: offset, size: h.Size}
	switch h.Typeflag {
	case tar.TypeReg:
		for k := range h.PAXRecords {
			if strings.HasPrefix(k, "GNU.sparse.") {
				return fmt.Errorf("read archive: %q is a sparse file", name)
			}
		}
		if h.Size < 0 || offset+h.Size > size {
			return fmt.Errorf("read archive: %q is cut off", name)
		}
	case tar.TypeSymlink:
		// Archives of older dockers have the layers of several images once,
		// and links to them.
		e.link = clean(path.Join(path.Dir(name), h.Linkname))
	case tar.TypeLink:
		e.link = clean(h.Linkname)
	default:
		return nil
	}
	if _, twice := a.entries[name]; twice {
		return fmt.Errorf("read archive: %q occurs twice", name)
	}
	a.entries[name] = e
	return nil
}

// clean is a name as entries are looked up by.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (a *tarFiles) open(name string) (file, error) {
	e, ok := a.entries[clean(name)]
	if ok && e.link != "" {
		e, ok = a.entries[e.link]
	}
	if !ok || e.link != "" {
		return file{}, fmt.Errorf("open %q in archive: %w", name, fs.ErrNotExist)
	}
	return file{io.NewSectionReader(a.f, e.offset, e.size), nopCloser{}, e.size}, nil
}

func (a *tarFiles) Close() error { return a.f.Close() }

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

// dirFiles are the files of a directory.
type dirFiles struct{ d *os.File }

func openDir(dir string) (*dirFiles, error) {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open image directory: %w", err)
	}
	return &dirFiles{d}, nil
}

// open opens without following any link and without waiting for a fifo's
// other end, and takes regular files only (REG-11).
func (a *dirFiles) open(name string) (file, error) {
	fd, err := unix.Openat2(int(a.d.Fd()), clean(name), &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return file{}, fmt.Errorf("open %q in image directory: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.Close()
		return file{}, fmt.Errorf("open %q in image directory: %w", name, err)
	}
	return file{f, f, fi.Size()}, nil
}

func (a *dirFiles) Close() error { return a.d.Close() }
