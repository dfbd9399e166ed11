package build

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"hull/codec"
	"hull/containerfile"
	"hull/image"
	"hull/layer"
)

// file opens the contexts, and reads and parses the Containerfile.
func (b *building) file(ctx context.Context) (*containerfile.File, error) {
	text, err := b.openMain(ctx)
	if err != nil {
		return nil, err
	}
	name, data := "Containerfile", text
	if text == nil {
		if name, data, err = b.readFiles(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.ignoreFile(name); err != nil {
		return nil, err
	}
	for n, where := range b.o.Contexts {
		t, err := b.openNamed(ctx, n, where)
		if err != nil {
			return nil, fmt.Errorf("open build context %s: %w", n, err)
		}
		if t != nil {
			b.keepTree(t)
			b.named[n] = t
		}
	}
	return containerfile.Parse(data, containerfile.ParseOptions{Name: name})
}

// openMain opens the context. text is the Containerfile when that came in its place.
func (b *building) openMain(ctx context.Context) (text []byte, err error) {
	where := b.o.Context
	switch {
	case where == "-":
		return b.openStdin(ctx)
	case isGit(where):
		b.main, err = b.gitTree(ctx, where, false)
	case isHTTP(where):
		return b.openURL(ctx, where)
	default:
		if b.main, err = openTree(where, "context"); err == nil {
			b.main.sums = b.sumsOf(b.main.dir)
		}
	}
	if err == nil {
		b.keepTree(b.main)
	}
	return nil, err
}

// openStdin reads an archive, which is the context, or a Containerfile, for
// which the context is empty.
func (b *building) openStdin(ctx context.Context) ([]byte, error) {
	if b.o.Stdin == nil {
		return nil, errors.New("read the context: there is no standard input")
	}
	return b.openStream(ctx, b.o.Stdin, "standard input")
}

func (b *building) openURL(ctx context.Context, url string) ([]byte, error) {
	f, err := b.download(ctx, url)
	if err != nil {
		return nil, err
	}
	r, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return b.openStream(ctx, r, containerfile.Redact(url))
}

func (b *building) openStream(ctx context.Context, in io.Reader, name string) ([]byte, error) {
	r := bufio.NewReaderSize(in, 4096)
	begin, err := r.Peek(512)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read the context from %s: %w", name, err)
	}
	if image.DetectCompression(begin) == image.Uncompressed && !isTar(begin) {
		data, err := io.ReadAll(io.LimitReader(r, containerfile.MaxSize+1))
		if err != nil {
			return nil, fmt.Errorf("read the Containerfile from %s: %w", name, err)
		}
		b.main = &tree{name: "context, which is empty since the Containerfile came from " + name}
		return data, nil
	}
	dir, err := b.temp("context")
	if err != nil {
		return nil, err
	}
	if err := unpackContext(ctx, dir, r); err != nil {
		return nil, fmt.Errorf("unpack the context from %s: %w", name, err)
	}
	if b.main, err = openTree(dir, "context"); err == nil {
		b.keepTree(b.main)
	}
	return nil, err
}

// unpackContext unpacks an archive, whoever its files belong to.
func unpackContext(ctx context.Context, dir string, r io.Reader) error {
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	z, _, err := image.Decompress(codec.Codec{}, r)
	if err != nil {
		return err
	}
	defer z.Close()
	from := tar.NewReader(z)
	return pipeTar(func(w *tar.Writer) error {
		for {
			h, err := from.Next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			switch h.Typeflag {
			case tar.TypeXGlobalHeader, tar.TypeChar, tar.TypeBlock:
				continue
			}
			n := &tar.Header{Typeflag: h.Typeflag, Name: h.Name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode, ModTime: h.ModTime, Format: tar.FormatPAX}
			if err := w.WriteHeader(n); err != nil {
				return err
			}
			if _, err := io.Copy(w, from); err != nil {
				return err
			}
		}
	}, func(r reader) error { return layer.Apply(ctx, root, r, layer.ApplyOptions{}) })
}

// openNamed opens a further context; nil is an image, which is pulled when it is read.
func (b *building) openNamed(ctx context.Context, name, where string) (*tree, error) {
	for _, prefix := range []string{"docker-image://", "container-image://", "docker://"} {
		if ref, ok := strings.CutPrefix(where, prefix); ok {
			img, err := b.image(ctx, ref, "")
			if err != nil {
				return nil, err
			}
			t, err := b.chainTree(img.TopLayer(), "context "+name)
			if err == nil {
				b.named[name] = t
			}
			return nil, err
		}
	}
	switch {
	case isGit(where):
		return b.gitTree(ctx, where, false)
	case isHTTP(where):
		f, err := b.download(ctx, where)
		if err != nil {
			return nil, err
		}
		dir, err := b.temp("context")
		if err != nil {
			return nil, err
		}
		r, err := os.Open(f.path)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		if err := unpackContext(ctx, dir, r); err != nil {
			return nil, err
		}
		return openTree(dir, "context "+name)
	}
	t, err := openTree(where, "context "+name)
	if err != nil {
		return nil, err
	}
	t.sums = b.sumsOf(t.dir)
	t.ignore, err = readIgnore(where)
	return t, err
}

func (b *building) contextNames() []string {
	var names []string
	for n := range b.o.Contexts {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// beginContext begins a stage with a named context: an image, or a directory
// as the file system.
func (st *stage) beginContext(ctx context.Context) error {
	where := st.b.o.Contexts[st.in.Base]
	for _, prefix := range []string{"docker-image://", "container-image://", "docker://"} {
		if ref, ok := strings.CutPrefix(where, prefix); ok {
			img, err := st.b.image(ctx, ref, st.in.Platform)
			if err != nil {
				return err
			}
			st.fromImage(img)
			return nil
		}
	}
	st.config.Config.Env = []string{scratchPath}
	st.scope = st.b.graph.Scope(st.config.Config.Env)
	_, _, err := st.copy(ctx, copying{word: "FROM", sources: []string{"/"}, dest: "/", from: st.in.Base}, "FROM "+st.in.Base)
	return err
}

// readFiles reads the Containerfiles.
func (b *building) readFiles(ctx context.Context) (name string, data []byte, err error) {
	files := b.o.Files
	if len(files) == 0 {
		found, err := containerfile.Find(b.main.dir)
		if err != nil {
			return "", nil, err
		}
		name, err := filepath.Rel(b.main.dir, found)
		if err != nil {
			return "", nil, err
		}
		// One that lies in the context is read as the context is: a link does
		// not lead out of it.
		data, err := b.readContextFile(ctx, name)
		return name, data, err
	}
	var all [][]byte
	for _, f := range files {
		data, err := b.readFile(ctx, f)
		if err != nil {
			return "", nil, fmt.Errorf("read the Containerfile: %w", err)
		}
		all = append(all, data)
	}
	if name = files[0]; name == "-" {
		name = "Containerfile"
	}
	if rel, err := filepath.Rel(b.main.dir, name); err == nil && filepath.IsAbs(name) && !strings.HasPrefix(rel, "..") {
		name = rel
	}
	return name, bytes.Join(all, []byte("\n")), nil
}

func (b *building) readFile(ctx context.Context, f string) ([]byte, error) {
	switch {
	case f == "-":
		return io.ReadAll(io.LimitReader(b.o.Stdin, containerfile.MaxSize+1))
	case isHTTP(f):
		d, err := b.download(ctx, f)
		if err != nil {
			return nil, err
		}
		f = d.path
	default:
		// Where the caller is, then in the context: what came from elsewhere
		// is not to name files of this machine.
		local := !isGit(b.o.Context) && !isHTTP(b.o.Context) && b.o.Context != "-"
		if _, err := os.Stat(f); err != nil || !local {
			data, cerr := b.readContextFile(ctx, f)
			if local && errors.Is(cerr, fs.ErrNotExist) {
				return nil, err
			}
			return data, cerr
		}
	}
	return readText(ctx, f, b.o.CPPFlags)
}

// readContextFile reads a Containerfile of the context.
func (b *building) readContextFile(ctx context.Context, f string) ([]byte, error) {
	real, err := b.main.resolve(f, true)
	if err != nil {
		return nil, err
	}
	if _, err := b.main.lstat(real); err != nil {
		return nil, fmt.Errorf("read %s in the context: %w", f, err)
	}
	return readText(ctx, filepath.Join(b.main.dir, real), b.o.CPPFlags)
}

func readText(ctx context.Context, f string, cppFlags []string) ([]byte, error) {
	if strings.HasSuffix(f, ".in") {
		return preprocess(ctx, f, cppFlags)
	}
	return os.ReadFile(f)
}

// preprocess runs the C preprocessor over a Containerfile.in.
func preprocess(ctx context.Context, file string, flags []string) ([]byte, error) {
	cpp, err := exec.LookPath("cpp")
	if err != nil {
		return nil, &hintError{fmt.Errorf("%s: a file that ends in .in goes through the C preprocessor: %w", file, err), "install cpp"}
	}
	args := append([]string{"-E", "-P", "-iquote", filepath.Dir(file), "-traditional", "-undef"}, flags...)
	c := exec.CommandContext(ctx, cpp, append(args, file)...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("preprocess %s: %w: %s", file, err, strings.TrimSpace(errs.String()))
	}
	return out.Bytes(), nil
}

// ignoreFile finds and reads the context's ignore file: the one that was
// named, else that of the Containerfile's own name, else the context's.
func (b *building) ignoreFile(name string) (err error) {
	if b.main == nil || b.main.dir == "" {
		return nil
	}
	if IsLocal(b.o.Context) || b.o.IgnoreFile != "" {
		b.main.ignore, err = findIgnore(b.main.dir, name, b.o.IgnoreFile)
		return err
	}
	// Files that came from elsewhere are not to name files of this machine.
	var names []string
	for _, suffix := range containerfile.IgnoreNames {
		names = append(names, name+suffix)
	}
	for _, n := range append(names, containerfile.IgnoreNames...) {
		if b.main.ignore, err = b.main.readIgnore(n); b.main.ignore != nil || err != nil {
			return err
		}
	}
	return nil
}

// readIgnore reads an ignore file of the tree; nil when it has none of the name.
func (t *tree) readIgnore(name string) (*containerfile.Ignore, error) {
	real, err := t.resolve(name, true)
	if err != nil {
		return nil, err
	}
	f, err := t.open(real)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the ignore file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, containerfile.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the ignore file: %w", err)
	}
	return containerfile.ParseIgnore(name, data)
}

// findIgnore is the ignore file of a context: that of the command line, the
// one that bears the Containerfile's name, or the context's own.
func findIgnore(dir, name, asked string) (*containerfile.Ignore, error) {
	if asked != "" {
		data, err := os.ReadFile(asked)
		if err != nil {
			return nil, fmt.Errorf("read the ignore file: %w", err)
		}
		return containerfile.ParseIgnore(asked, data)
	}
	for _, suffix := range containerfile.IgnoreNames {
		for _, f := range []string{name + suffix, filepath.Join(dir, name+suffix)} {
			data, err := os.ReadFile(f)
			if err == nil {
				return containerfile.ParseIgnore(f, data)
			}
		}
	}
	return readIgnore(dir)
}

func readIgnore(dir string) (*containerfile.Ignore, error) {
	for _, n := range containerfile.IgnoreNames {
		data, err := os.ReadFile(filepath.Join(dir, n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the ignore file: %w", err)
		}
		return containerfile.ParseIgnore(path.Base(n), data)
	}
	return nil, nil
}
