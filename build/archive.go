package build

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"hull/codec"
	"hull/image"
)

// sum hashes the content of items, several at once.
func sum(ctx context.Context, items []item) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, runtime.NumCPU()))
	for i := range items {
		it := &items[i]
		if it.open == nil || it.Sum != "" {
			continue
		}
		if sum, ok := it.sums.get(it.stamp); ok {
			it.Sum = sum
			continue
		}
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r, err := it.open()
			if err != nil {
				return err
			}
			defer r.Close()
			h := sha256.New()
			n, err := io.Copy(h, r)
			if err != nil {
				return fmt.Errorf("read %s: %w", it.Name, err)
			}
			it.Sum = hex.EncodeToString(h.Sum(nil))
			if n == it.Size {
				it.sums.put(it.stamp, it.Sum, it.changed)
			}
			it.Size = n
			return nil
		})
	}
	return g.Wait()
}

// isArchive says whether a file is a tar, compressed or not.
func isArchive(open func() (io.ReadCloser, error)) (bool, error) {
	f, err := open()
	if err != nil {
		return false, err
	}
	defer f.Close()
	begin := make([]byte, 512)
	n, err := io.ReadFull(f, begin)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false, err
	}
	if begin = begin[:n]; image.DetectCompression(begin) == image.Uncompressed {
		return isTar(begin), nil
	}
	z, _, err := image.Decompress(codec.Codec{}, io.MultiReader(bytes.NewReader(begin), f))
	if err != nil {
		return false, nil
	}
	defer z.Close()
	begin = make([]byte, 512)
	n, _ = io.ReadFull(z, begin) // what is no archive is copied as it is
	return isTar(begin[:n]), nil
}

// isTar looks at the first block of a file.
func isTar(b []byte) bool {
	if len(b) < 512 {
		return false
	}
	_, err := tar.NewReader(bytes.NewReader(b)).Next()
	return err == nil
}

// extract writes what an archive holds below its place.
func (p *placing) extract(w *tar.Writer, a *placed) error {
	f, err := a.open()
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	raw := io.TeeReader(f, h)
	z, _, err := image.Decompress(codec.Codec{}, raw)
	if err != nil {
		return err
	}
	defer z.Close()
	if err := p.entries(w, tar.NewReader(z), a); err != nil {
		return err
	}
	// The key was made of the whole file: also of what follows the archive's end.
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return err
	}
	if a.Sum != "" && hex.EncodeToString(h.Sum(nil)) != a.Sum {
		return errors.New("it was changed while the build read it")
	}
	return nil
}

// entries writes the files of an archive.
func (p *placing) entries(w *tar.Writer, r *tar.Reader, a *placed) error {
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name := path.Clean("/" + h.Name)
		if strings.HasPrefix(path.Base(name), ".wh.") {
			return fmt.Errorf("%s: a name that begins so deletes files in a layer", h.Name)
		}
		if name = path.Join(a.path, name)[1:]; name == "" {
			continue
		}
		h.Name, h.Format, h.ModTime = name, tar.FormatPAX, p.st.b.time(h.ModTime)
		h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
		h.Uname, h.Gname = "", ""
		for k := range h.PAXRecords {
			if !strings.HasPrefix(k, "SCHILY.xattr.") {
				delete(h.PAXRecords, k)
			}
		}
		if h.Typeflag == tar.TypeDir {
			h.Name += "/"
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = path.Join(a.path, path.Clean("/"+h.Linkname))[1:]
		}
		if p.chown {
			h.Uid, h.Gid = p.uid, p.gid
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
	}
}

// parseChmod reads --chmod: octal digits, or symbols as chmod has them.
func parseChmod(s string) (func(mode uint32, dir bool) uint32, error) {
	if s == "" {
		return func(m uint32, _ bool) uint32 { return m }, nil
	}
	if n, err := strconv.ParseUint(s, 8, 32); err == nil {
		if n > 0o7777 {
			return nil, errors.New("it is not an octal number up to 7777")
		}
		return func(uint32, bool) uint32 { return uint32(n) }, nil
	}
	var clauses []func(uint32, bool) uint32
	for clause := range strings.SplitSeq(s, ",") {
		f, err := chmodClause(clause)
		if err != nil {
			return nil, err
		}
		clauses = append(clauses, f)
	}
	return func(m uint32, dir bool) uint32 {
		for _, f := range clauses {
			m = f(m, dir)
		}
		return m
	}, nil
}

// chmodClause is WHO OP WHAT, as u=rwX.
func chmodClause(s string) (func(uint32, bool) uint32, error) {
	i := strings.IndexAny(s, "+-=")
	if i < 0 {
		return nil, fmt.Errorf("%q has none of + - =", s)
	}
	var who uint32
	for _, c := range s[:i] {
		switch c {
		case 'u':
			who |= 0o4700
		case 'g':
			who |= 0o2070
		case 'o':
			who |= 0o1007
		case 'a':
			who |= 0o7777
		default:
			return nil, fmt.Errorf("%q: %q is none of u g o a", s, c)
		}
	}
	if i == 0 {
		who = 0o7777
	}
	var bits uint32
	var some bool
	for _, c := range s[i+1:] {
		switch c {
		case 'r':
			bits |= 0o444
		case 'w':
			bits |= 0o222
		case 'x':
			bits |= 0o111
		case 'X':
			some = true
		case 's':
			bits |= 0o6000
		case 't':
			bits |= 0o1000
		default:
			return nil, fmt.Errorf("%q: %q is none of r w x X s t", s, c)
		}
	}
	op := s[i]
	return func(m uint32, dir bool) uint32 {
		b := bits
		if some && (dir || m&0o111 != 0) {
			b |= 0o111
		}
		switch op {
		case '+':
			return m | b&who
		case '-':
			return m &^ (b & who)
		}
		return m&^(who&0o777|who&0o6000&b) | b&who
	}, nil
}
