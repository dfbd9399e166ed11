package clifull

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hull/build"
	"hull/command"
	"hull/containerfile"
	"hull/image"
	"hull/oci"
)

// A shipment is what a node needs of this machine, and the flags of build that
// name it there.
type shipment struct {
	words   []string
	context string // as the node names it
	parts   []func(ctx context.Context, w *tar.Writer) error
}

// options are what is known of the build without a node.
func (b *farmBuild) options() build.Options {
	var o build.Options
	f := buildFlags{files: b.files}
	var args []string
	if b.context != "" {
		args = []string{b.context}
	}
	f.setContext(&o, args)
	return o
}

// shipment packs up what the flags name here.
func (b *farmBuild) shipment() (*shipment, error) {
	s := &shipment{words: slices.Clone(b.words)}
	o := b.options()
	if err := s.addContext(b, o); err != nil {
		return nil, err
	}
	f := buildFlags{args: b.args, argFiles: b.argFiles, secrets: b.secrets}
	args, err := f.buildArgs()
	if err != nil {
		return nil, err
	}
	for _, k := range slices.Sorted(maps.Keys(args)) {
		s.words = append(s.words, "--build-arg="+k+"="+args[k])
	}
	for _, e := range b.env {
		if v, ok := os.LookupEnv(e); ok && !strings.Contains(e, "=") {
			e += "=" + v
		}
		if strings.Contains(e, "=") {
			s.words = append(s.words, "--env="+e)
		}
	}
	if len(b.ssh) > 0 {
		s.words = append(s.words, "--ssh=default")
	}
	if err := f.setSecrets(&f.o); err != nil {
		return nil, err
	}
	if err := s.addSecrets(f.o.Secrets); err != nil {
		return nil, err
	}
	for i, v := range b.sent {
		file, password, _ := strings.Cut(v.value, ":")
		at := path.Join("sent", strconv.Itoa(i))
		s.addPath(at, file)
		if password != "" {
			at += ":" + password
		}
		s.words = append(s.words, "--"+v.name+"="+at)
	}
	return s, nil
}

// addContext sends the context, further ones, and the Containerfiles. Those of
// a URL are the node's to fetch.
func (s *shipment) addContext(b *farmBuild, o build.Options) error {
	files := b.files
	local := build.IsLocal(o.Context)
	s.context = o.Context
	if local {
		s.context = "context"
		if len(files) == 0 {
			found, err := containerfile.Find(o.Context)
			if err != nil {
				return err
			}
			files = []string{found}
		}
		name := files[0]
		if rel, err := filepath.Rel(o.Context, name); err == nil && !strings.HasPrefix(rel, "..") {
			name = rel
		}
		s.parts = append(s.parts, func(ctx context.Context, w *tar.Writer) error {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "context/", Mode: 0o755}); err != nil {
				return err
			}
			return build.PackContext(ctx, w, o.Context, build.PackOptions{Prefix: "context", Containerfile: name, IgnoreFile: b.ignoreFile})
		})
		// What is ignored has not been sent.
		s.addData("ignore", nil)
		s.words = append(s.words, "--ignorefile=ignore")
	}
	for i, f := range files {
		if strings.Contains(f, "://") {
			s.words = append(s.words, "--file="+f)
			continue
		}
		if _, err := os.Stat(f); err != nil && local {
			f = filepath.Join(o.Context, f)
		} else if err != nil {
			s.words = append(s.words, "--file="+f) // it lies in the context
			continue
		}
		data, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("read the Containerfile: %w", err)
		}
		at := path.Join("files", strconv.Itoa(i), filepath.Base(f))
		s.addData(at, data)
		s.words = append(s.words, "--file="+at)
	}
	contexts, err := keyValues("build-context", b.contexts)
	if err != nil {
		return err
	}
	for i, name := range slices.Sorted(maps.Keys(contexts)) {
		where := contexts[name]
		if st, err := os.Stat(where); err == nil && st.IsDir() {
			at := path.Join("contexts", strconv.Itoa(i))
			s.addPath(at, where)
			where = at
		}
		s.words = append(s.words, "--build-context="+name+"="+where)
	}
	return nil
}

func (s *shipment) addSecrets(secrets map[string]build.Secret) error {
	for i, id := range slices.Sorted(maps.Keys(secrets)) {
		x := secrets[id]
		data := []byte(os.Getenv(x.Env))
		if x.File != "" {
			var err error
			if data, err = os.ReadFile(x.File); err != nil {
				return fmt.Errorf("read secret %s: %w", id, err)
			}
		}
		at := path.Join("secrets", strconv.Itoa(i))
		s.addData(at, data)
		s.words = append(s.words, "--secret=id="+id+",src="+at)
	}
	return nil
}

// addData sends a file that only its owner there can read.
func (s *shipment) addData(at string, data []byte) {
	s.parts = append(s.parts, func(_ context.Context, w *tar.Writer) error {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: at, Mode: 0o600, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	})
}

// addPath sends a file or a directory.
func (s *shipment) addPath(at, from string) {
	s.parts = append(s.parts, func(ctx context.Context, w *tar.Writer) error {
		st, err := os.Stat(from)
		if err != nil {
			return err
		}
		if !st.IsDir() {
			data, err := os.ReadFile(from)
			if err != nil {
				return err
			}
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: at, Mode: 0o600, Size: int64(len(data))}); err != nil {
				return err
			}
			_, err = w.Write(data)
			return err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: at + "/", Mode: 0o755}); err != nil {
			return err
		}
		return build.PackContext(ctx, w, from, build.PackOptions{Prefix: at, All: strings.HasPrefix(at, "sent")})
	})
}

// recordSize is what tar reads at a time: an archive that is no multiple of it
// would have it wait for the rest.
const recordSize = 10240

// write sends the archive and leaves out open.
func (s *shipment) write(ctx context.Context, out io.Writer) error {
	count := &countingWriter{w: out}
	w := tar.NewWriter(count)
	for _, part := range s.parts {
		if err := part(ctx, w); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	_, err := count.Write(make([]byte, (recordSize-count.n%recordSize)%recordSize))
	return err
}

type countingWriter struct {
	w io.Writer
	n int
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += n
	return n, err
}

// farmInner are the parts of farm build that are done in the store, as root of
// the user's namespace, while ssh runs as the user.
func (s *session) farmInner() *command.Command {
	return &command.Command{
		Usage: "load PLATFORM | list NAME[,NAME...] PLATFORM=ID...",
		Args:  command.AtLeast(2),
		Run: func(ctx context.Context, args []string) error {
			images, err := s.store(ctx)
			if err != nil {
				return err
			}
			if args[0] == "load" {
				return s.farmLoad(ctx, images, args[1])
			}
			return s.farmMakeList(ctx, images, strings.Split(args[1], ","), args[2:])
		},
	}
}

func (s *session) farmLoad(ctx context.Context, images *image.Store, platform string) error {
	p, err := parsePlatform(platform)
	if err != nil {
		return err
	}
	got, err := images.Load(ctx, image.Source{Reader: s.stdin}, image.LoadOptions{Platform: p})
	if err != nil {
		return err
	}
	if len(got) != 1 {
		return fmt.Errorf("load the image: the archive has %d", len(got))
	}
	fmt.Fprintln(s.stdout, got[0].Image.ID)
	return nil
}

// farmMakeList makes a list of images of the store and prints its ID.
func (s *session) farmMakeList(ctx context.Context, images *image.Store, names, members []string) error {
	hold, err := images.Hold(ctx)
	if err != nil {
		return err
	}
	defer hold.Release()
	var refs []oci.Reference
	for _, n := range names {
		ref, err := oci.ParseReference(n)
		if err != nil {
			return err
		}
		refs = append(refs, ref)
	}
	var entries []image.ListEntry
	for _, m := range members {
		platform, id, _ := strings.Cut(m, "=")
		p, err := parsePlatform(platform)
		if err != nil {
			return err
		}
		img, err := images.Resolve(ctx, oci.Digest(id).Hex())
		if err != nil {
			return err
		}
		e, err := listEntry(images, img, p)
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	list, err := putEntries(ctx, images, refs[0], entries, true)
	if err != nil {
		return err
	}
	if err := images.Tag(ctx, list.ID, refs...); err != nil {
		return err
	}
	fmt.Fprintln(s.stdout, list.ID)
	return nil
}
