package clifull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"hull/build"
	"hull/image"
	"hull/layer"
)

// outputs reads --output.
func (b *buildFlags) outputs(o *build.Options, stdout *os.File) (*outputs, error) {
	out := &outputs{}
	for _, spec := range b.output {
		kind, dest, err := parseOutput(spec)
		if err != nil {
			return nil, err
		}
		switch kind {
		case "image", "":
		case "registry":
			b.push = true
		case "oci", "docker":
			if dest == "" {
				return nil, fmt.Errorf("--output %s: it needs dest=FILE", spec)
			}
			out.archives = append(out.archives, archiveOutput{kind, dest})
		case "local":
			if o.Export != nil {
				return nil, errors.New("--output: there can be one of local and tar")
			}
			if dest == "" {
				return nil, fmt.Errorf("--output %s: it needs dest=DIRECTORY", spec)
			}
			o.Export = func(ctx context.Context, root *os.File) error { return exportDir(ctx, root, dest) }
		case "tar":
			if o.Export != nil {
				return nil, errors.New("--output: there can be one of local and tar")
			}
			file := stdout
			if dest != "-" && dest != "" {
				if file, err = os.OpenFile(dest, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644); err != nil {
					return nil, fmt.Errorf("--output: %w", err)
				}
				out.closers = append(out.closers, file)
			}
			o.Export = func(ctx context.Context, root *os.File) error { return layer.WriteTree(ctx, file, root) }
		default:
			return nil, fmt.Errorf("--output %s: type %q is not one of image, registry, oci, docker, local, tar", spec, kind)
		}
	}
	o.NoImage = o.Export != nil && len(o.Names) == 0 && len(out.archives) == 0
	if o.NoImage && o.Attest.Wanted() {
		return nil, errors.New("attestations lie beside an image: give it a name with --tag")
	}
	return out, nil
}

// parseOutput reads a directory, "-", or type=KIND,dest=PATH.
func parseOutput(spec string) (kind, dest string, err error) {
	if spec == "-" {
		return "tar", "-", nil
	}
	if !strings.Contains(spec, "=") {
		return "local", spec, nil
	}
	for word := range strings.SplitSeq(spec, ",") {
		k, v, ok := strings.Cut(word, "=")
		if !ok {
			return "", "", fmt.Errorf("--output %s: %q is not KEY=VALUE", spec, word)
		}
		switch k {
		case "type":
			kind = v
		case "dest":
			dest = v
		case "push":
			if v == "true" {
				kind = "registry"
			}
		case "name":
		default:
			return "", "", fmt.Errorf("--output %s: key %q is not known", spec, k)
		}
	}
	if kind == "" {
		return "", "", fmt.Errorf("--output %s: it has no type", spec)
	}
	return kind, dest, nil
}

// exportDir writes a tree into a directory of the machine. Who may not give
// files away gets them as his own.
func exportDir(ctx context.Context, root *os.File, dest string) error {
	if err := os.MkdirAll(dest, 0o755); err != nil {
		return fmt.Errorf("export to %s: %w", dest, err)
	}
	to, err := os.Open(dest)
	if err != nil {
		return fmt.Errorf("export to %s: %w", dest, err)
	}
	defer to.Close()
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(layer.WriteTree(ctx, pw, root)) }()
	err = layer.Apply(ctx, to, pr, layer.ApplyOptions{})
	pr.CloseWithError(errors.New("nobody reads on"))
	if err != nil {
		return fmt.Errorf("export to %s: %w", dest, err)
	}
	return nil
}

// saveOutputs writes archives of the image.
func (s *session) saveOutputs(ctx context.Context, images *image.Store, list []archiveOutput, img image.Image, o build.Options) error {
	for _, a := range list {
		if err := saveArchive(ctx, images, a, image.SaveItem{Image: img, Names: o.Names}); err != nil {
			return fmt.Errorf("write %s: %w", a.dest, err)
		}
	}
	return nil
}

func saveArchive(ctx context.Context, images *image.Store, a archiveOutput, item image.SaveItem) error {
	f, err := os.OpenFile(filepath.Clean(a.dest), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	format := image.OCIArchive
	if a.format == "docker" {
		format = image.DockerArchive
	}
	if err := images.Save(ctx, f, []image.SaveItem{item}, image.SaveOptions{Format: format}); err != nil {
		return err
	}
	return f.Close()
}
