package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"golang.org/x/sys/unix"

	"hull/containerfile"
	"hull/image"
)

// A copying is one COPY or ADD, expanded.
type copying struct {
	word       string
	sources    []string
	contents   []instructions.SourceContent
	dest       string
	chown      string
	chmod      string
	from       string
	exclude    []string
	link       bool
	parents    bool
	add        bool
	checksum   string
	keepGitDir bool
	unpack     *bool
}

func copyOf(c *instructions.CopyCommand) copying {
	return copying{word: "COPY", sources: c.SourcePaths, contents: c.SourceContents, dest: c.DestPath, chown: c.Chown, chmod: c.Chmod,
		from: c.From, exclude: c.ExcludePatterns, link: c.Link, parents: c.Parents}
}

func addOf(c *instructions.AddCommand) copying {
	a := copying{word: "ADD", sources: c.SourcePaths, contents: c.SourceContents, dest: c.DestPath, chown: c.Chown, chmod: c.Chmod,
		exclude: c.ExcludePatterns, link: c.Link, add: true, checksum: c.Checksum, unpack: c.Unpack}
	a.keepGitDir = c.KeepGitDir != nil && *c.KeepGitDir
	return a
}

// An item is one file that is copied, before it is known where to.
type item struct {
	// Rel is its path below the destination; "" is the destination itself, as
	// which a single file may be copied, or a directory's own entry.
	Rel  string
	Name string // of a single file, for a destination that is a directory
	Type byte   // d f l c b p; a: an archive to unpack
	Mode uint32 `json:",omitempty"`
	UID  int    `json:",omitempty"`
	GID  int    `json:",omitempty"`
	Size int64  `json:",omitempty"`
	Sum  string `json:",omitempty"` // of the content
	Link string `json:",omitempty"`
	Dev  uint64 `json:",omitempty"`

	mtime time.Time
	open  func() (io.ReadCloser, error)
	same  [2]uint64 // device and inode of one with several names
	extra map[string]string
	top   bool // the directory that the source named

	// What is remembered of the file's content, and the state it was in.
	sums    *sumCache
	stamp   string
	changed unix.Timespec
}

// copy does COPY and ADD.
func (st *stage) copy(ctx context.Context, c copying, text string) (k string, cached bool, err error) {
	mode, err := parseChmod(c.chmod)
	if err != nil {
		return "", false, fmt.Errorf("--chmod=%s: %w", c.chmod, err)
	}
	if c.link && c.chown != "" && !numeric(c.chown) {
		return "", false, fmt.Errorf("--chown=%s: --link copies without looking at the files below: use numbers", c.chown)
	}
	items, err := st.gather(ctx, &c)
	if err != nil {
		return "", false, err
	}
	if err := sum(ctx, items); err != nil {
		return "", false, err
	}
	for i := range items {
		if items[i].Type != 'l' && items[i].Type != 'a' {
			items[i].Mode = mode(items[i].Mode, items[i].Type == 'd')
		}
	}
	dest, chain := st.destination(c.dest), st.chain()
	if c.link {
		chain = ""
	}
	k = key("copy", chain, dest, c.chown, c.link, st.b.o.timeKey(), items)
	by := nop(fmt.Sprintf("%s %s in %s ", c.word, digestText(items), strings.TrimSuffix(dest, ".")))
	cached, err = st.layered(ctx, k, by, func(ctx context.Context) (*image.Layer, error) {
		return st.write(ctx, dest, items, c)
	})
	return k, cached, err
}

// destination is a path of the image as the working directory makes it
// absolute; a slash at its end says that it is a directory.
func (st *stage) destination(p string) string {
	dir := strings.HasSuffix(p, "/") || path.Base(p) == "." || p == ""
	if !path.IsAbs(p) {
		p = path.Join("/", st.config.Config.WorkingDir, p)
	}
	if p = path.Clean(p); dir && p != "/" {
		p += "/"
	}
	return p
}

// digestText is how the history names what was copied.
func digestText(items []item) string {
	kind := "multi"
	switch {
	case len(items) == 1 && items[0].Type != 'd':
		kind = "file"
	case len(items) > 0 && items[0].Type == 'd':
		kind = "dir"
	}
	return kind + ":" + key(items)
}

// gather finds the files that are copied, in the order of the sources.
func (st *stage) gather(ctx context.Context, c *copying) ([]item, error) {
	dir := strings.HasSuffix(c.dest, "/") || path.Base(c.dest) == "." || c.dest == ""
	many := len(c.sources)+len(c.contents) > 1
	var all []item
	for _, f := range c.contents {
		data := f.Data
		it := item{Name: path.Base(f.Path), Type: 'f', Mode: 0o644, Size: int64(len(data)), mtime: st.b.o.now(),
			open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data)), nil }}
		if many || dir {
			it.Rel = it.Name
		}
		all = append(all, it)
	}
	var wild bool
	for _, src := range c.sources {
		if c.add && isRemote(src) {
			more, err := st.gatherRemote(ctx, c, src, dir || many)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
			continue
		}
		if c.checksum != "" {
			return nil, errors.New("--checksum is for a source that is a URL")
		}
		t, err := st.b.treeOf(ctx, st.in, c.from)
		if err != nil {
			return nil, err
		}
		w := walker{t: t, c: c, dir: dir || many}
		if err := w.source(ctx, src); err != nil {
			return nil, err
		}
		wild = wild || strings.ContainsAny(src, `*?[`)
		all = append(all, w.out...)
	}
	if len(all) == 0 && (wild || len(c.sources) == 0) {
		return nil, fmt.Errorf("%s: no file matches %s", c.word, strings.Join(c.sources, " "))
	}
	files := 0
	for i := range all {
		if all[i].Rel == "" && all[i].Type != 'd' && all[i].Type != 'a' {
			files++
		}
	}
	if files > 1 {
		return nil, fmt.Errorf("when using %s with more than one source file, the destination must be a directory and end with a /", c.word)
	}
	return all, nil
}

// A walker collects the files of one source.
type walker struct {
	t        *tree
	c        *copying
	dir      bool // the destination is a directory
	excludes *containerfile.Ignore
	parents  map[string]containerfile.Parent // what the ignore file said of directories
	out      []item
}

func (w *walker) source(ctx context.Context, src string) error {
	var err error
	if w.excludes, err = containerfile.NewIgnore("--exclude", w.c.exclude); err != nil {
		return err
	}
	pivot := ""
	if w.c.parents {
		// What is before "/./" is not kept.
		if i := strings.Index(src, "/./"); i >= 0 {
			pivot = path.Clean("/" + src[:i])
		}
	}
	found, err := w.t.glob(src, w.c.parents)
	if err != nil {
		return err
	}
	for _, p := range found {
		real, err := w.t.resolve(p, true)
		if err != nil {
			return err
		}
		stat, err := w.t.lstat(real)
		if err != nil {
			return w.missing(src, err)
		}
		out, err := w.ignored(clean(real))
		if err != nil {
			return err
		}
		if out && !(isDir(stat) && w.t.ignore.Below(clean(real))) {
			return w.missing(src, fs.ErrNotExist)
		}
		rel := ""
		if w.c.parents {
			rel = clean(strings.TrimPrefix(p, pivot))
			w.above(p, rel)
		} else if !isDir(stat) && w.dir {
			rel = path.Base(p)
		}
		if rel == "." {
			rel = ""
		}
		if w.leftOut(clean(real), path.Base(p), "") {
			continue
		}
		if _, err := w.add(ctx, real, rel, path.Base(p), true); err != nil {
			return err
		}
	}
	return nil
}

// above adds the directories that --parents keeps above a source.
func (w *walker) above(p, rel string) {
	for d := path.Dir(rel); d != "."; d = path.Dir(d) {
		full := strings.TrimSuffix(p, "/"+rel) + "/" + d
		real, err := w.t.resolve(full, true)
		if err != nil {
			continue
		}
		if stat, err := w.t.lstat(real); err == nil {
			it := w.item(stat, d, real)
			w.out = append(w.out, it)
		}
	}
}

func (w *walker) missing(src string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "not a directory") {
		if out, _ := w.t.ignored(src); out {
			return fmt.Errorf("%s: %s is left out of the %s by its ignore file: %w", w.c.word, src, w.t.name, fs.ErrNotExist)
		}
		return fmt.Errorf("%s: %s is not in the %s: %w", w.c.word, src, w.t.name, fs.ErrNotExist)
	}
	return fmt.Errorf("%s %s: %w", w.c.word, src, err)
}

// leftOut says whether --exclude leaves a path out: as it is called from the
// tree's root, from the source, or by its name where the source named it.
func (w *walker) leftOut(full, name, rel string) bool {
	if w.excludes == nil {
		return false
	}
	for _, p := range []string{full, name, rel} {
		if p == "" || p == "." {
			continue
		}
		if out, _, err := w.excludes.Match(p, containerfile.Parent{}); err == nil && out {
			return true
		}
	}
	return false
}

// ignored says whether the ignore file leaves a path out. What it said of a
// directory is asked for each file in it, so it is remembered.
func (w *walker) ignored(p string) (bool, error) {
	if w.t.ignore == nil || p == "." {
		return false, nil
	}
	parent, err := w.parent(path.Dir(p))
	if err != nil {
		return false, err
	}
	out, _, err := w.t.ignore.Match(p, parent)
	return out, err
}

func (w *walker) parent(dir string) (containerfile.Parent, error) {
	known, ok := w.parents[dir]
	if ok || dir == "." {
		return known, nil
	}
	above, err := w.parent(path.Dir(dir))
	if err != nil {
		return known, err
	}
	if _, known, err = w.t.ignore.Match(dir, above); err != nil {
		return known, err
	}
	if w.parents == nil {
		w.parents = map[string]containerfile.Parent{}
	}
	w.parents[dir] = known
	return known, nil
}

// add adds a file, or a directory with what it holds. It reports whether
// something was added.
func (w *walker) add(ctx context.Context, src, rel, name string, top bool) (bool, error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	stat, err := w.t.lstat(src)
	if err != nil {
		return false, fmt.Errorf("look at %s in the %s: %w", src, w.t.name, err)
	}
	out, err := w.ignored(clean(src))
	if err != nil {
		return false, err
	}
	if !isDir(stat) {
		if out || stat.Mode&sIFMT == sIFSOCK {
			return false, nil
		}
		it := w.item(stat, rel, src)
		it.Name = name
		if it.Type == 'l' {
			if it.Link, err = w.t.readlink(src); err != nil {
				return false, err
			}
		}
		if w.c.add && top && it.Type == 'f' && w.c.wantsUnpack(true) {
			if ok, err := isArchive(it.open); err != nil {
				return false, err
			} else if ok {
				it.Type, it.Rel = 'a', strings.TrimSuffix(strings.TrimSuffix(rel, name), "/")
			}
		}
		w.out = append(w.out, it)
		return true, nil
	}
	return w.directory(ctx, src, rel, top, out, stat)
}

func (w *walker) directory(ctx context.Context, src, rel string, top, out bool, stat statT) (bool, error) {
	if out && !w.t.ignore.Below(clean(src)) {
		return false, nil
	}
	at := len(w.out)
	it := w.item(stat, rel, src)
	it.top = top && !w.c.parents
	w.out = append(w.out, it)
	names, err := w.t.list(src)
	if err != nil {
		return false, fmt.Errorf("list %s in the %s: %w", src, w.t.name, err)
	}
	some := false
	for _, n := range names {
		p, r := path.Join(src, n), path.Join(rel, n)
		if w.leftOut(clean(p), "", r) {
			continue
		}
		added, err := w.add(ctx, p, r, n, false)
		if err != nil {
			return false, err
		}
		some = some || added
	}
	if out && !some {
		w.out = w.out[:at]
		return false, nil
	}
	return true, nil
}

func (w *walker) item(stat statT, rel, src string) item {
	it := item{Rel: rel, Mode: stat.Mode & 0o7777, mtime: time.Unix(stat.Mtim.Sec, stat.Mtim.Nsec), Type: typeOf(stat)}
	if w.t.owned {
		it.UID, it.GID = int(stat.Uid), int(stat.Gid)
	}
	switch it.Type {
	case 'f':
		it.Size = stat.Size
		it.open = func() (io.ReadCloser, error) { return w.t.open(src) }
		if w.t.sums != nil {
			it.sums, it.stamp, it.changed = w.t.sums, stampOf(stat), stat.Ctim
		}
		if stat.Nlink > 1 {
			it.same = [2]uint64{stat.Dev, stat.Ino}
		}
	case 'c', 'b':
		it.Dev = stat.Rdev
	}
	if w.t.owned {
		it.extra = w.t.attributes(src, it.Type)
	}
	return it
}

func (c *copying) wantsUnpack(local bool) bool {
	if c.unpack != nil {
		return *c.unpack
	}
	return local
}
