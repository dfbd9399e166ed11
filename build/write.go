package build

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/image"
	"hull/inroot"
	"hull/layer"
	"hull/passwd"
)

type statT = unix.Stat_t

const (
	sIFMT   = unix.S_IFMT
	sIFSOCK = unix.S_IFSOCK
)

// typeOf is an item's letter for a kind of file.
func typeOf(st statT) byte {
	switch st.Mode & sIFMT {
	case unix.S_IFDIR:
		return 'd'
	case unix.S_IFLNK:
		return 'l'
	case unix.S_IFCHR:
		return 'c'
	case unix.S_IFBLK:
		return 'b'
	case unix.S_IFIFO:
		return 'p'
	}
	return 'f'
}

// attributes are the extended attributes of a file of a stage or an image.
func (t *tree) attributes(p string, typ byte) map[string]string {
	if typ != 'f' && typ != 'd' {
		return nil
	}
	f, err := inroot.Open(t.root, clean(p), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	return layer.Xattrs(f)
}

// A placing is the copying of items into the image below.
type placing struct {
	st       *stage
	view     *tree
	c        *copying
	uid, gid int
	chown    bool
	made     map[string]*placed
	latest   time.Time
	archives []*placed
	real     map[string]string // directories of the destination: as named → resolved
	lacks    map[string]bool   // directories that the image lacks, and so all in them
}

// placed is an item with its path in the image.
type placed struct {
	item
	path string
}

// write makes a layer of items.
func (st *stage) write(ctx context.Context, dest string, items []item, c copying) (*image.Layer, error) {
	p := &placing{st: st, c: &c, made: map[string]*placed{}, real: map[string]string{}, view: &tree{name: "image", owned: true}}
	if !c.link && st.chain() != "" {
		root, err := st.b.Snapshots.ViewTree(st.chain())
		if err != nil {
			return nil, err
		}
		p.view.root = root
		defer root.Close()
	}
	if err := p.owner(c.chown); err != nil {
		return nil, err
	}
	if err := p.place(dest, items); err != nil {
		return nil, err
	}
	return st.addTar(ctx, p.writeTo)
}

// addTar stores what write writes as a layer on top of the stage.
func (st *stage) addTar(ctx context.Context, write func(w *tar.Writer) error) (*image.Layer, error) {
	var l image.Layer
	err := pipeTar(write, func(r reader) (err error) {
		l, err = st.b.Images.AddLayer(ctx, st.chain(), r, image.LayerOptions{})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &l, nil
}

// owner settles --chown.
func (p *placing) owner(spec string) error {
	if spec == "" {
		return nil
	}
	u, err := p.st.lookUpUser(p.view, spec)
	if err != nil {
		return fmt.Errorf("--chown=%s: %w", spec, err)
	}
	p.uid, p.gid, p.chown = int(u.UID), int(u.GID), true
	if _, group, ok := strings.Cut(spec, ":"); !ok || group == "" {
		if numeric(spec) {
			p.gid = p.uid // as docker and podman have it: one number is both
		}
	}
	return nil
}

func (st *stage) lookUpUser(view *tree, spec string) (passwd.User, error) {
	var f passwd.Files
	for name, to := range map[string]*[]byte{"/etc/passwd": &f.Passwd, "/etc/group": &f.Group} {
		real, err := view.resolve(name, true)
		if err != nil || view.root == nil {
			continue
		}
		if file, err := view.open(real); err == nil {
			*to, _ = io.ReadAll(io.LimitReader(file, 16<<20)) // a name that is cut off is not found
			file.Close()
		}
	}
	return passwd.Lookup(spec, nil, f)
}

func numeric(spec string) bool {
	for part := range strings.SplitSeq(spec, ":") {
		if part == "" || strings.Trim(part, "0123456789") != "" {
			return false
		}
	}
	return true
}

// place finds out the path of each item.
func (p *placing) place(dest string, items []item) error {
	for i := range items {
		if items[i].mtime.After(p.latest) {
			p.latest = items[i].mtime
		}
	}
	isDirectory := strings.HasSuffix(dest, "/")
	real, err := p.view.resolve(dest, true)
	if err != nil {
		return err
	}
	stat, err := p.view.lstat(real)
	exists := err == nil
	single := len(items) > 0 && !slices.ContainsFunc(items, func(it item) bool { return it.Rel != "" || it.Type == 'd' || it.Type == 'a' })
	switch {
	case exists && !isDir(stat) && (isDirectory || !single):
		return fmt.Errorf("%s to %s: it is no directory in the image", p.c.word, dest)
	case single && exists && isDir(stat), single && isDirectory:
		for i := range items {
			items[i].Rel = items[i].Name
		}
		single = false
	}
	if single {
		if err := p.parents(path.Dir(real)); err != nil {
			return err
		}
	} else if err := p.parents(real); err != nil {
		return err
	}
	p.real["."] = real
	for i := range items {
		if err := p.one(real, &items[i], single); err != nil {
			return err
		}
	}
	return nil
}

// parents makes directories that the image lacks.
func (p *placing) parents(dir string) error {
	for d := dir; d != "/" && p.made[d] == nil; d = path.Dir(d) {
		st, err := p.view.lstat(d)
		if err == nil {
			if !isDir(st) {
				return fmt.Errorf("%s to %s: %s is no directory in the image", p.c.word, dir, d)
			}
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return err
		}
		p.made[d] = &placed{path: d, item: item{Type: 'd', Mode: 0o755, UID: p.uid, GID: p.gid, mtime: p.latest}}
	}
	return nil
}

// one places an item.
func (p *placing) one(dest string, it *item, single bool) error {
	x := &placed{item: *it}
	if p.chown {
		x.UID, x.GID = p.uid, p.gid
	}
	if it.Type == 'a' {
		x.path = path.Join(dest, it.Rel)
		p.archives = append(p.archives, x)
		return nil
	}
	if single {
		x.path = dest
		p.made[x.path] = x
		return nil
	}
	rel := path.Clean(it.Rel)
	if rel == "." {
		// What is in the source is copied, not the source itself.
		if mode, err := strconv.ParseUint(p.c.chmod, 8, 32); err == nil && p.made[dest] != nil {
			p.made[dest].Mode = uint32(mode)
		}
		return nil
	}
	parent, ok := p.real[path.Dir(rel)]
	if !ok {
		parent = path.Join(dest, path.Dir(rel))
	}
	x.path = path.Join(parent, path.Base(rel))
	if p.lacks[parent] {
		p.lack(x)
	} else if old, err := p.view.lstat(x.path); err == nil {
		real, err := p.view.resolve(x.path, true)
		if err != nil {
			return err
		}
		below, err := p.view.lstat(real)
		there := err == nil
		switch {
		case it.Type == 'd' && there && isDir(below):
			x.path = real // into a directory that a link leads to
		case it.Type == 'd' && (!isLink(old) || there):
			return fmt.Errorf("%s to %s: it is no directory in the image", p.c.word, x.path)
		case it.Type != 'd' && isDir(old):
			return fmt.Errorf("%s to %s: it is a directory in the image", p.c.word, x.path)
		}
	} else if errors.Is(err, fs.ErrNotExist) {
		p.lack(x)
	}
	if it.Type == 'd' {
		p.real[rel] = x.path
	}
	if old := p.made[x.path]; old != nil && (old.Type == 'd') != (it.Type == 'd') {
		return fmt.Errorf("%s to %s: two sources make it, one a directory and one a file", p.c.word, x.path)
	}
	p.made[x.path] = x
	return nil
}

// lack notes a directory that the image does not have: nobody need look for
// what is in it.
func (p *placing) lack(x *placed) {
	if x.Type != 'd' {
		return
	}
	if p.lacks == nil {
		p.lacks = map[string]bool{}
	}
	p.lacks[x.path] = true
}

// writeTo writes the layer.
func (p *placing) writeTo(w *tar.Writer) error {
	paths := make([]string, 0, len(p.made))
	for n := range p.made {
		paths = append(paths, n)
	}
	slices.Sort(paths)
	names := map[[2]uint64]string{}
	for _, n := range paths {
		if n == "/" {
			continue
		}
		if err := p.file(w, p.made[n], names); err != nil {
			return fmt.Errorf("copy %s: %w", n, err)
		}
	}
	for _, a := range p.archives {
		if err := p.extract(w, a); err != nil {
			return fmt.Errorf("unpack %s: %w", a.Name, err)
		}
	}
	return nil
}

func (p *placing) file(w *tar.Writer, x *placed, names map[[2]uint64]string) error {
	h := &tar.Header{Name: x.path[1:], Mode: int64(x.Mode), Uid: x.UID, Gid: x.GID, ModTime: p.st.b.time(x.mtime), Format: tar.FormatPAX, PAXRecords: x.extra}
	switch x.Type {
	case 'd':
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case 'l':
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, x.Link, 0o777
	case 'c', 'b':
		h.Typeflag = tar.TypeChar
		if x.Type == 'b' {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(x.Dev)), int64(unix.Minor(x.Dev))
	case 'p':
		h.Typeflag = tar.TypeFifo
	default:
		h.Typeflag, h.Size = tar.TypeReg, x.Size
		if x.same != [2]uint64{} {
			if first, ok := names[x.same]; ok {
				h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first, 0, nil
				return w.WriteHeader(h)
			}
			names[x.same] = h.Name
		}
	}
	if err := w.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	r, err := x.open()
	if err != nil {
		return err
	}
	defer r.Close()
	// What is written must be what the key was made of, or the cache would
	// serve it for something else.
	sum := sha256.New()
	if n, err := io.Copy(w, io.TeeReader(io.LimitReader(r, x.Size), sum)); err != nil {
		return err
	} else if n != x.Size || x.Sum != "" && hex.EncodeToString(sum.Sum(nil)) != x.Sum {
		return errors.New("it was changed while the build read it")
	}
	return nil
}

// time is with which time a file goes into a layer.
func (b *building) time(t time.Time) time.Time {
	if f := b.o.fileTime(); f != nil {
		return f(t)
	}
	return t
}

// addDirectories makes a layer of directories that the image lacks; nil when
// it has them all. They are owner's, or root's where the image does not know him.
func (st *stage) addDirectories(ctx context.Context, dir, owner string) (*image.Layer, error) {
	view := &tree{name: "image", owned: true}
	if chain := st.chain(); chain != "" {
		var err error
		if view.root, err = st.b.Snapshots.ViewTree(chain); err != nil {
			return nil, err
		}
		defer view.close()
	}
	real, err := view.resolve(dir, true)
	if err != nil {
		return nil, err
	}
	p := &placing{st: st, c: &copying{word: "WORKDIR"}, view: view, made: map[string]*placed{}, latest: time.Now()}
	if err := p.owner(owner); err != nil {
		p.uid, p.gid = 0, 0
	}
	if err := p.parents(real); err != nil || len(p.made) == 0 {
		return nil, err
	}
	return st.addTar(ctx, p.writeTo)
}
