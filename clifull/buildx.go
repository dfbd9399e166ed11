package clifull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"hull/command"
	"hull/engine"
	"hull/format"
	"hull/oci"
	"hull/transfer"
)

// oneBuilder is the name of the only builder there is: this program.
const oneBuilder = "default"

// buildxNodes are docker's commands on builders and on images in registries.
func (s *session) buildxNodes() []command.Node {
	return []command.Node{
		{Path: "buildx create", Short: "Accept the name of a builder", Build: s.builderCreate},
		{Path: "buildx imagetools", Short: "Commands on images in registries"},
		{Path: "buildx imagetools create", Short: "Make an image index in a registry of images there", Build: s.imagetoolsCreate},
		{Path: "buildx imagetools inspect", Short: "Show an image in a registry", Build: s.imagetoolsInspect},
		{Path: "buildx inspect", Short: "Show the builder", Build: s.builderInspect},
		{Path: "buildx ls", Short: "List the builder", Build: s.builderList},
		{Path: "buildx use", Short: "Accept the name of a builder to use", Build: s.builderUse},
		{Path: "buildx version", Short: "Show the version", Build: s.builderVersion},
	}
}

func (s *session) builderVersion() *command.Command {
	return &command.Command{
		Args: command.NoArgs, Examples: []string{"buildx version"},
		Run: func(context.Context, []string) error {
			fmt.Fprintln(s.stdout, "hull buildx "+engine.Version())
			return nil
		},
	}
}

// A builderRow is the builder, as a list shows it.
type builderRow struct {
	Name, Driver, Status, Version string
	Current                       bool
	Platforms                     []string
}

func theBuilder() builderRow {
	return builderRow{Name: oneBuilder, Driver: "hull", Status: "running", Version: engine.Version(), Current: true, Platforms: []string{oci.HostPlatform().String()}}
}

func (s *session) builderList() *command.Command {
	var text string
	return &command.Command{
		Usage: "[options]", Long: "Lists the builder: hull itself, which needs no service. Builds for other platforms are done by emulation, or by hull farm.",
		Args: command.NoArgs, Examples: []string{"buildx ls", "buildx ls --format json"},
		Flags: func(f *command.Flags) {
			f.StringVar(&text, "format", "", "Pretty-print the builder using a Go template, or json")
		},
		Run: func(context.Context, []string) error {
			b := theBuilder()
			if format.IsJSON(text) {
				return format.JSON(s.stdout, b, "")
			}
			return showRows(s, "buildx ls", text, []builderRow{b}, []string{"NAME", "DRIVER", "STATUS", "VERSION", "PLATFORMS"},
				[][]string{{b.Name + "*", b.Driver, b.Status, b.Version, strings.Join(b.Platforms, ",")}})
		},
	}
}

func (s *session) builderInspect() *command.Command {
	return &command.Command{
		Usage: "[NAME]", Long: "Shows the builder.",
		Args: command.AtMost(1), Examples: []string{"buildx inspect"},
		Flags: func(f *command.Flags) {
			f.Bool("bootstrap", false, "The builder needs no start: for compatibility")
			f.Hide("bootstrap")
		},
		Run: func(context.Context, []string) error {
			b := theBuilder()
			fmt.Fprintf(s.stdout, "Name:      %s\nDriver:    %s\n\nNodes:\nName:      %s\nStatus:    %s\nVersion:   %s\nPlatforms: %s\n",
				b.Name, b.Driver, b.Name, b.Status, b.Version, strings.Join(b.Platforms, ", "))
			return nil
		},
	}
}

func (s *session) builderCreate() *command.Command {
	var name string
	return &command.Command{
		Usage: "[options]",
		Long: "Accepts the name of a builder and prints it, so that docker's scripts go on: hull builds without one, whatever --builder says.\n" +
			"Builders on other hosts are a farm: hull farm create.",
		Args: command.NoArgs, Examples: []string{"buildx create --use --name mine"},
		Flags: func(f *command.Flags) {
			f.StringVar(&name, "name", oneBuilder, "Name to accept")
			f.String("driver", "", "Accepted: docker-container, docker, hull")
			f.Words("driver", "docker-container", "docker", "hull")
			f.StringArray("driver-opt", nil, "Accepted")
			f.StringArray("platform", nil, "Accepted")
			f.Bool("use", false, "Accepted")
			f.Bool("bootstrap", false, "Accepted")
		},
		Run: func(context.Context, []string) error {
			fmt.Fprintln(s.stdout, name)
			return nil
		},
	}
}

func (s *session) builderUse() *command.Command {
	return &command.Command{
		Usage: "NAME", Long: "Accepts the name of a builder: there is one, hull, and it is used.",
		Args: command.Exactly(1), Examples: []string{"buildx use default"},
		Flags: func(f *command.Flags) {
			f.Bool("default", false, "Accepted")
			f.Bool("global", false, "Accepted")
		},
		Run: func(context.Context, []string) error { return nil },
	}
}

func (s *session) imagetoolsInspect() *command.Command {
	var r registryFlags
	var raw bool
	var text string
	return &command.Command{
		Usage: "[options] NAME", Long: "Shows the manifest of an image in a registry, and of an index what is in it.",
		Args: command.Exactly(1), Examples: []string{"buildx imagetools inspect registry.example.com/app:1", "buildx imagetools inspect --raw registry.example.com/app:1"},
		Flags: func(f *command.Flags) {
			r.declare(f)
			r.declareCreds(f)
			f.BoolVar(&raw, "raw", false, "Print the manifest as the registry has it")
			f.StringVar(&text, "format", "", "Pretty-print .Name and .Manifest using a Go template")
		},
		Run: func(ctx context.Context, args []string) error {
			t, err := s.open(ctx, r)
			if err != nil {
				return err
			}
			data, err := t.Inspect(ctx, "docker://"+strings.TrimPrefix(args[0], "docker://"))
			if err != nil {
				return err
			}
			if raw {
				_, err := s.stdout.Write(data)
				return err
			}
			return s.showManifest(args[0], text, data)
		},
	}
}

// A remoteManifest is what imagetools shows.
type remoteManifest struct {
	MediaType string           `json:"mediaType"`
	Digest    oci.Digest       `json:"digest"`
	Size      int              `json:"size"`
	Manifests []oci.Descriptor `json:"manifests,omitempty"`
}

func (s *session) showManifest(name, text string, data []byte) error {
	m := remoteManifest{Digest: oci.FromBytes(data), Size: len(data)}
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("read the manifest of %s: %w", name, err)
	}
	if text != "" {
		t, err := format.Parse("imagetools inspect", text)
		if err != nil {
			return err
		}
		return t.Rows(s.stdout, []struct {
			Name     string
			Manifest remoteManifest
		}{{name, m}}, nil, true)
	}
	fmt.Fprintf(s.stdout, "Name:      %s\nMediaType: %s\nDigest:    %s\n", name, m.MediaType, m.Digest)
	if len(m.Manifests) > 0 {
		fmt.Fprint(s.stdout, "\nManifests:\n")
	}
	repository, _, _ := strings.Cut(name, "@")
	for _, d := range m.Manifests {
		platform := ""
		if d.Platform != nil {
			platform = d.Platform.String()
		}
		fmt.Fprintf(s.stdout, "  Name:      %s@%s\n  MediaType: %s\n  Platform:  %s\n\n", repository, d.Digest, d.MediaType, platform)
	}
	return nil
}

func (s *session) imagetoolsCreate() *command.Command {
	var r registryFlags
	var tags, notes []string
	var dry, more bool
	return &command.Command{
		Usage:    "[options] SOURCE...",
		Long:     "Makes an image index of images of a registry, those of an index among them one by one, and pushes it under each --tag.",
		Args:     command.AtLeast(1),
		Examples: []string{"buildx imagetools create -t registry.example.com/app:1 registry.example.com/app:amd64 registry.example.com/app:arm64"},
		Flags: func(f *command.Flags) {
			r.declare(f)
			r.declareCreds(f)
			f.StringArrayVarP(&tags, "tag", "t", nil, "Name under which the index is pushed")
			f.StringArrayVar(&notes, "annotation", nil, "Annotation of the index: KEY=VALUE")
			f.BoolVar(&dry, "dry-run", false, "Print the index and push nothing")
			f.BoolVar(&more, "append", false, "Add to the images that the first --tag has")
		},
		Run: func(ctx context.Context, args []string) error {
			if len(tags) == 0 && (!dry || more) {
				return errors.New("create index: give it a name with --tag")
			}
			if more {
				args = append([]string{tags[0]}, args...)
			}
			t, err := s.open(ctx, r)
			if err != nil {
				return err
			}
			return s.createIndex(ctx, t, args, tags, notes, dry)
		},
	}
}

// createIndex makes a list in the store, pushes it and takes it away again.
func (s *session) createIndex(ctx context.Context, t *transfer.Transfer, sources, tags, notes []string, dry bool) (err error) {
	o := transfer.AddOptions{All: true}
	if o.Annotations, err = annotations(notes); err != nil {
		return err
	}
	for i, n := range sources {
		sources[i] = "docker://" + strings.TrimPrefix(n, "docker://")
	}
	name := fmt.Sprintf("localhost/imagetools-%d:latest", os.Getpid())
	if _, err := t.CreateList(ctx, name, sources, false, o); err != nil {
		return err
	}
	defer func() {
		_, rerr := t.Images.RemoveList(context.WithoutCancel(ctx), name)
		err = errors.Join(err, rerr)
	}()
	if dry {
		data, err := t.Inspect(ctx, name)
		if err == nil {
			_, err = fmt.Fprintln(s.stdout, string(data))
		}
		return err
	}
	for _, tag := range tags {
		if _, err := t.PushList(ctx, name, "docker://"+strings.TrimPrefix(tag, "docker://"), transfer.PushListOptions{}); err != nil {
			return err
		}
	}
	return nil
}
