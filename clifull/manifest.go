package clifull

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"hull/command"
	"hull/image"
	"hull/oci"
	"hull/transfer"
)

// manifestNodes are the commands on manifest lists.
func (s *session) manifestNodes() []command.Node {
	return []command.Node{
		{Path: "manifest", Short: "Manipulate manifest lists and image indexes"},
		{Path: "manifest add", Short: "Add images to a manifest list or image index", Build: s.manifestAdd},
		{Path: "manifest annotate", Short: "Add or update information about an entry in a manifest list", Build: s.manifestAnnotate},
		{Path: "manifest create", Short: "Create manifest list or image index", Build: s.manifestCreate},
		{Path: "manifest exists", Short: "Check if a manifest list exists in local storage", Build: s.manifestExists},
		{Path: "manifest inspect", Short: "Display the contents of a manifest list or image index", Build: s.manifestInspect},
		{Path: "manifest push", Short: "Push a manifest list or image index to a registry", Build: s.manifestPush},
		{Path: "manifest remove", Short: "Remove an entry from a manifest list or image index", Build: s.manifestRemove},
		{Path: "manifest rm", Short: "Remove manifest list or image index from local storage", Build: s.manifestRm},
	}
}

func (s *session) manifestCreate() *command.Command {
	var (
		r     registryFlags
		o     transfer.AddOptions
		notes []string
		amend bool
	)
	return &command.Command{
		Usage: "[options] LIST [IMAGE...]",
		Long: "Creates a manifest list or image index.\n" +
			"An IMAGE without a transport is looked for in the store first, then in its registry.",
		Examples: []string{"manifest create mylist:v1.11", "manifest create mylist:v1.11 arch-specific-image-to-add another-arch-specific-image-to-add", "manifest create --all mylist:v1.11 docker://registry.example.com/image:tag"},
		Args:     command.AtLeast(1),
		Flags: func(f *command.Flags) {
			r.declareTLS(f)
			f.BoolVar(&o.All, "all", false, "Add all of the lists' images if the images to add are lists")
			f.BoolVarP(&amend, "amend", "a", false, "Modify an existing list if one with the desired name already exists")
			f.StringArrayVar(&notes, "annotation", nil, "Set an annotation of the list (KEY=VALUE)")
		},
		Run: func(ctx context.Context, args []string) error {
			var err error
			if o.Annotations, err = annotations(notes); err != nil {
				return err
			}
			t, err := s.open(ctx, r)
			if err != nil {
				return err
			}
			img, err := t.CreateList(ctx, args[0], args[1:], amend, o)
			return s.printList(img, err)
		},
	}
}

// printList prints the ID of a list that was changed.
func (s *session) printList(img image.Image, err error) error {
	if err == nil {
		fmt.Fprintln(s.stdout, img.ID.Hex())
	}
	return err
}

// annotations reads KEY=VALUE.
func annotations(list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m := map[string]string{}
	for _, a := range list {
		k, v, ok := strings.Cut(a, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("no value given for annotation %q: want KEY=VALUE", a)
		}
		m[k] = v
	}
	return m, nil
}

// entryFlags are what may be said of an image in a list.
type entryFlags struct {
	platform oci.Platform
	notes    []string
}

func (e *entryFlags) declare(f *command.Flags) {
	p := &e.platform
	f.StringArrayVar(&e.notes, "annotation", nil, "Set an annotation for the specified image (KEY=VALUE)")
	f.StringVar(&p.Architecture, "arch", "", "Override the architecture of the specified image")
	f.StringSliceVar(&p.Features, "features", nil, "Override the features of the specified image")
	f.StringVar(&p.OS, "os", "", "Override the OS of the specified image")
	f.StringVar(&p.OSVersion, "os-version", "", "Override the OS version of the specified image")
	f.StringVar(&p.Variant, "variant", "", "Override the variant of the specified image")
}

func (s *session) manifestAdd() *command.Command {
	var (
		r registryFlags
		e entryFlags
		a artifactFlags
		o transfer.AddOptions
	)
	return &command.Command{
		Usage: "[options] LIST IMAGE|FILE...",
		Long: "Adds an image to a manifest list or image index, or with --artifact an artifact made of files.\n" +
			"An IMAGE without a transport is looked for in the store first, then in its registry.",
		Examples: []string{"manifest add mylist:v1.11 image:v1.11-amd64", "manifest add --all mylist:v1.11 docker://registry.example.com/image:tag", "manifest add --artifact --artifact-type application/example mylist:v1.11 file"},
		Args:     command.AtLeast(2),
		Flags: func(f *command.Flags) {
			r.declare(f)
			r.declareCreds(f)
			e.declare(f)
			a.declare(f)
			f.BoolVar(&o.All, "all", false, "Add all of the list's images if the image is a list")
		},
		Run: func(ctx context.Context, args []string) error {
			var err error
			if o.Annotations, err = annotations(e.notes); err != nil {
				return err
			}
			o.Platform = e.platform
			t, err := s.open(ctx, r)
			if err != nil {
				return err
			}
			if a.on {
				img, err := a.add(ctx, t, args[0], args[1:], o)
				return s.printList(img, err)
			}
			if a.changed() {
				return errors.New("options that begin with --artifact- need --artifact")
			}
			var img image.Image
			for _, name := range args[1:] {
				if img, err = t.AddToList(ctx, args[0], name, o); err != nil {
					return err
				}
			}
			return s.printList(img, nil)
		},
	}
}

// entry finds what a command calls an image in a list: its digest, or a name
// in the store whose manifest is in the list.
func entry(ctx context.Context, images *image.Store, list *image.List, name string) (oci.Digest, error) {
	d := oci.Digest(name)
	if err := d.Validate(); err != nil {
		img, lerr := images.Resolve(ctx, name)
		if lerr != nil {
			return "", fmt.Errorf("invalid image digest %q: %w", name, err)
		}
		for _, m := range img.ManifestDigests() {
			if list.Find(m) >= 0 {
				return m, nil
			}
		}
		d = img.Manifest
	}
	if list.Find(d) < 0 {
		return "", fmt.Errorf("no instance matching digest %q found in manifest list", d)
	}
	return d, nil
}

func (s *session) manifestAnnotate() *command.Command {
	var (
		e          entryFlags
		osFeatures []string
		index      bool
		subject    string
	)
	return &command.Command{
		Usage:    "[options] LIST [IMAGE]",
		Long:     "Adds or updates information about an entry in a manifest list or image index, or with --index about the list itself.",
		Examples: []string{"manifest annotate --annotation left=right mylist:v1.11 sha256:15352d97781ffdf357bf3459c037be3efac4133dc9070c2dce7eca7c05c3e736", "manifest annotate --index --annotation left=right mylist:v1.11"},
		Args:     command.Between(1, 2),
		Flags: func(f *command.Flags) {
			e.declare(f)
			f.StringSliceVar(&osFeatures, "os-features", nil, "Override the OS features of the specified image")
			f.BoolVar(&index, "index", false, "Annotate the list itself instead of an entry")
			f.StringVar(&subject, "subject", "", "With --index: the image or list that the list is about")
		},
		Run: func(ctx context.Context, args []string) error {
			if index != (len(args) == 1) {
				return errors.New("want either an IMAGE of the list or --index")
			}
			if subject != "" && !index {
				return errors.New("--subject needs --index")
			}
			e.platform.OSFeatures = osFeatures
			notes, err := annotations(e.notes)
			if err != nil {
				return err
			}
			images, err := s.store(ctx)
			if err != nil {
				return err
			}
			l, err := images.FindList(ctx, args[0])
			if err != nil {
				return err
			}
			about, err := subjectOf(ctx, images, subject)
			if err != nil {
				return err
			}
			img, err := images.ChangeList(ctx, l.ID, func(l *image.List) error {
				if about != nil {
					l.Subject = about
				}
				if index {
					l.Annotations = withAnnotations(l.Annotations, notes)
					return nil
				}
				d, err := entry(ctx, images, l, args[1])
				if err != nil {
					return err
				}
				x := &l.Entries[l.Find(d)].Descriptor
				x.Platform = transfer.OverridePlatform(x.Platform, e.platform)
				x.Annotations = withAnnotations(x.Annotations, notes)
				return nil
			})
			return s.printList(img, err)
		},
	}
}

func withAnnotations(have, add map[string]string) map[string]string {
	for k, v := range add {
		if have == nil {
			have = map[string]string{}
		}
		have[k] = v
	}
	return have
}

func (s *session) manifestExists() *command.Command {
	return &command.Command{
		Usage:    "LIST",
		Long:     "If the manifest list exists in local storage, exits with 0, otherwise the exit code will be 1.",
		Examples: []string{"manifest exists mylist"},
		Args:     command.Exactly(1),
		Run: func(ctx context.Context, args []string) error {
			images, err := s.store(ctx)
			if err != nil {
				return err
			}
			_, err = images.FindList(ctx, args[0])
			if errors.Is(err, image.ErrNotFound) {
				return &command.Exit{Code: command.CodeFailed}
			}
			return err
		},
	}
}

func (s *session) manifestInspect() *command.Command {
	var r registryFlags
	return &command.Command{
		Usage:    "[options] IMAGE",
		Long:     "Displays a manifest list or image index of the store, or the manifest of an image in a registry, without pulling it.",
		Examples: []string{"manifest inspect localhost/list", "manifest inspect registry.example.com/image:tag"},
		Args:     command.Exactly(1),
		Flags: func(f *command.Flags) {
			r.declare(f)
			r.declareCreds(f)
			// Docker's flags; the first is what podman always does, the second is --tls-verify=false.
			f.BoolP("verbose", "v", false, "Output additional info (accepted for docker's sake)")
			f.Hide("verbose")
		},
		Run: func(ctx context.Context, args []string) error {
			t, err := s.open(ctx, r)
			if err != nil {
				return err
			}
			data, err := t.Inspect(ctx, args[0])
			if err != nil {
				return err
			}
			var b bytes.Buffer
			if err := json.Indent(&b, data, "", "    "); err != nil {
				return fmt.Errorf("show manifest: %w", err)
			}
			fmt.Fprintln(s.stdout, b.String())
			return nil
		},
	}
}

func (s *session) manifestPush() *command.Command {
	var (
		r          registryFlags
		p          pushFlags
		all, rm    bool
		quiet      bool
		digestFile string
		also       []string
	)
	return &command.Command{
		Usage:    "[options] LIST [DESTINATION]",
		Long:     "Pushes a manifest list or image index, with its images, to a registry. Images that are not in the store are copied from where they were added.",
		Examples: []string{"manifest push mylist:v1.11 docker://registry.example.com/image:v1.11"},
		Args:     command.Between(1, 2),
		Flags: func(f *command.Flags) {
			r.declare(f)
			r.declareCreds(f)
			p.declare(f)
			f.BoolVar(&all, "all", true, "Also push the images in the list")
			f.StringSliceVar(&also, "add-compression", nil, "Send each image with its layers compressed by this too, and list both (gzip, zstd, zstd:chunked)")
			f.StringVar(&digestFile, "digestfile", "", "Write the digest of the pushed list to the specified file")
			f.BoolVarP(&quiet, "quiet", "q", false, "Don't output progress information when pushing lists")
			f.BoolVar(&rm, "rm", false, "Remove the manifest list if push succeeds")
		},
		Run: func(ctx context.Context, args []string) error {
			o := transfer.PushListOptions{ListOnly: !all}
			var err error
			if o.PushOptions, err = p.options(); err != nil {
				return err
			}
			for _, name := range also {
				c, err := compressionOf(name)
				if err != nil {
					return fmt.Errorf("--add-compression: %w", err)
				}
				o.AddCompression = append(o.AddCompression, c)
			}
			t, err := s.open(ctx, r)
			if err != nil {
				return err
			}
			dest := args[len(args)-1]
			show := s.progress(quiet)
			t.Notify = show.event
			pushed, err := t.PushList(ctx, args[0], dest, o)
			show.end()
			if err != nil {
				return err
			}
			if s.docker() {
				fmt.Fprintln(s.stdout, pushed.Digest)
			}
			if digestFile != "" {
				if err := os.WriteFile(digestFile, []byte(pushed.Digest), 0o644); err != nil {
					return fmt.Errorf("write digest file: %w", err)
				}
			}
			if rm {
				_, err = t.Images.RemoveList(ctx, args[0])
			}
			return err
		},
	}
}

func (s *session) manifestRemove() *command.Command {
	return &command.Command{
		Usage:    "LIST IMAGE",
		Long:     "Removes an image, by its digest, from a manifest list or image index.",
		Examples: []string{"manifest remove mylist:v1.11 sha256:15352d97781ffdf357bf3459c037be3efac4133dc9070c2dce7eca7c05c3e736"},
		Args:     command.Exactly(2),
		Run: func(ctx context.Context, args []string) error {
			images, err := s.store(ctx)
			if err != nil {
				return err
			}
			l, err := images.FindList(ctx, args[0])
			if err != nil {
				return err
			}
			img, err := images.ChangeList(ctx, l.ID, func(l *image.List) error {
				d, err := entry(ctx, images, l, args[1])
				if err != nil {
					return fmt.Errorf("removing from manifest list %s: %w", args[0], err)
				}
				i := l.Find(d)
				l.Entries = append(l.Entries[:i], l.Entries[i+1:]...)
				return nil
			})
			return s.printList(img, err)
		},
	}
}

func (s *session) manifestRm() *command.Command {
	var ignore bool
	return &command.Command{
		Usage:    "[options] LIST [LIST...]",
		Long:     "Removes manifest lists or image indexes from local storage; the images in them stay.",
		Examples: []string{"manifest rm mylist:v1.11"},
		Args:     command.AtLeast(1),
		Flags: func(f *command.Flags) {
			f.BoolVarP(&ignore, "ignore", "i", false, "Ignore errors when a specified manifest list is not there")
		},
		Run: func(ctx context.Context, args []string) error {
			images, err := s.store(ctx)
			if err != nil {
				return err
			}
			code := command.CodeFailed // all that went wrong: one was not there
			var errs []error
			for _, name := range args {
				gone, err := images.RemoveList(ctx, name)
				for _, n := range gone.Untagged {
					fmt.Fprintln(s.stdout, "Untagged: "+n.String())
				}
				for _, id := range gone.Deleted {
					fmt.Fprintln(s.stdout, "Deleted: "+id.Hex())
				}
				if err == nil || ignore && errors.Is(err, image.ErrNotFound) {
					continue
				}
				if !errors.Is(err, image.ErrNotFound) {
					code = command.CodeEngine
				}
				errs = append(errs, err)
			}
			return command.WithCode(code, errors.Join(errs...))
		},
	}
}
