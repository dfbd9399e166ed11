package clifull

import (
	"context"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"

	"hull/command"
	"hull/image"
	"hull/oci"
	"hull/transfer"
)

// artifactFlags are those of manifest add --artifact.
type artifactFlags struct {
	on                       bool
	kind, config, configType string
	layerType, subject       string
	excludeTitles            bool
	notes                    []string
}

func (a *artifactFlags) declare(f *command.Flags) {
	f.BoolVar(&a.on, "artifact", false, "Make an artifact of the files that follow, and add it")
	f.StringArrayVar(&a.notes, "artifact-annotation", nil, "Set an annotation of the artifact (KEY=VALUE)")
	f.StringVar(&a.config, "artifact-config", "", "File that is the artifact's configuration")
	f.StringVar(&a.configType, "artifact-config-type", "", "Media type of the artifact's configuration")
	f.BoolVar(&a.excludeTitles, "artifact-exclude-titles", false, "Do not note the names of the files")
	f.StringVar(&a.layerType, "artifact-layer-type", "", "Media type of the files (default by their names)")
	f.StringVar(&a.subject, "artifact-subject", "", "Image or list that the artifact is about")
	f.StringVar(&a.kind, "artifact-type", "", "Type of the artifact (default application/vnd.unknown.artifact.v1)")
}

func (a *artifactFlags) changed() bool {
	return a.kind+a.config+a.configType+a.layerType+a.subject != "" || a.excludeTitles || len(a.notes) > 0
}

// add makes an artifact of files and adds it to a list.
func (a *artifactFlags) add(ctx context.Context, t *transfer.Transfer, list string, names []string, o transfer.AddOptions) (image.Image, error) {
	l, err := t.Images.FindList(ctx, list)
	if err != nil {
		return l, err
	}
	hold, err := t.Images.Hold(ctx)
	if err != nil {
		return l, err
	}
	defer hold.Release()
	m := oci.Manifest{ArtifactType: firstSet(a.kind, "application/vnd.unknown.artifact.v1")}
	m.Config.MediaType = a.configType
	if m.Annotations, err = annotations(a.notes); err != nil {
		return l, err
	}
	if m.Subject, err = subjectOf(ctx, t.Images, a.subject); err != nil {
		return l, err
	}
	var config []byte
	if a.config != "" {
		if config, err = os.ReadFile(a.config); err != nil {
			return l, fmt.Errorf("read --artifact-config: %w", err)
		}
		m.Config.MediaType = firstSet(a.configType, oci.MediaTypeConfig)
	}
	var files []image.ArtifactFile
	for _, name := range names {
		f := image.ArtifactFile{Open: func() (io.ReadCloser, error) { return os.Open(name) }}
		f.MediaType = firstSet(a.layerType, mime.TypeByExtension(filepath.Ext(name)), "application/octet-stream")
		if !a.excludeTitles {
			f.Annotations = map[string]string{oci.AnnotationTitle: filepath.Base(name)}
		}
		files = append(files, f)
	}
	e, err := t.Images.PutArtifact(ctx, m, config, files)
	if err != nil {
		return l, err
	}
	e.Descriptor.Annotations = o.Annotations
	if p := transfer.OverridePlatform(nil, o.Platform); p.OS != "" || p.Architecture != "" {
		e.Descriptor.Platform = p
	}
	return t.Images.ChangeList(ctx, l.ID, func(l *image.List) error { l.Put(e); return nil })
}

// subjectOf describes the manifest of an image or list of the store; nil of "".
func subjectOf(ctx context.Context, images *image.Store, name string) (*oci.Descriptor, error) {
	if name == "" {
		return nil, nil
	}
	img, _, err := images.ResolveAny(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("find the subject: %w", err)
	}
	if img.List != nil {
		data, kind, err := img.List.Index(img.List.Docker())
		return &oci.Descriptor{MediaType: kind, Digest: oci.FromBytes(data), Size: int64(len(data))}, err
	}
	e, err := images.LocalEntry(img)
	e.Descriptor.Platform = nil
	return &e.Descriptor, err
}
