package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"golang.org/x/sync/errgroup"

	"hull/blob"
	"hull/image"
	"hull/oci"
	"hull/registry"
	"hull/trust"
)

// PullArtifact gets an artifact from its registry. It is kept under the name as
// it was said; of an index the manifest for this machine is taken.
func (t *Transfer) PullArtifact(ctx context.Context, name string, o PullOptions) (image.Artifact, error) {
	ref, err := image.ArtifactName(name)
	if err != nil {
		return image.Artifact{}, err
	}
	full := ref.Normalized()
	rules, err := t.policy().Rules("docker", trust.NameScopes(full))
	if err != nil {
		return image.Artifact{}, fmt.Errorf("pull artifact %s: %w", ref, err)
	}
	sources, err := t.Registry.Sources(ctx, full)
	if err != nil {
		return image.Artifact{}, fmt.Errorf("pull artifact %s: %w", ref, err)
	}
	want := full.Tag
	if full.Digest != "" {
		want = string(full.Digest)
	}
	t.notify(Event{Kind: Trying, Ref: full.String()})
	a, err := firstSource(ctx, sources, func(repo *registry.Repository) (image.Artifact, error) {
		return t.artifactFrom(ctx, repo, ref, want, rules, o)
	})
	if err != nil {
		return image.Artifact{}, pullHint(fmt.Errorf("pull artifact %s: %w", ref, err), full)
	}
	return a, nil
}

func (t *Transfer) artifactFrom(ctx context.Context, repo *registry.Repository, ref oci.Reference, want string, rules trust.Rules, o PullOptions) (image.Artifact, error) {
	var none image.Artifact
	got, err := t.trustedManifest(ctx, repo, ref, want, rules, o)
	if err != nil {
		return none, err
	}
	single, m := got.single, got.manifest
	hold, err := t.Images.Hold(ctx)
	if err != nil {
		return none, err
	}
	defer hold.Release()
	// What a pull that fails leaves is garbage, until the next one resumes it.
	if err := t.Images.MarkGarbage(); err != nil {
		return none, err
	}
	if err := t.fetchFiles(ctx, repo, m, got.open); err != nil {
		return none, err
	}
	t.notify(Event{Kind: Manifest})
	mediaType := m.MediaType
	if mediaType == "" {
		mediaType = single.MediaType
	}
	a, err := t.Images.SetArtifact(ctx, ref, oci.Descriptor{MediaType: mediaType, ArtifactType: m.ArtifactType, Digest: single.Digest, Size: int64(len(single.Data))}, m, single.Data)
	if err != nil {
		return none, err
	}
	for _, l := range m.Layers {
		if err := t.Images.NotePlace(l.Digest, ref.Normalized().Name()); err != nil {
			return none, err
		}
	}
	return a, nil
}

// fetchFiles brings the config and the files of an artifact, several at once.
func (t *Transfer) fetchFiles(ctx context.Context, repo *registry.Repository, m *oci.Manifest, open *decryptor) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(t.jobs())
	var seen []oci.Digest
	for _, d := range append(slices.Clone(m.Layers), m.Config) {
		if slices.Contains(seen, d.Digest) {
			continue
		}
		seen = append(seen, d.Digest)
		g.Go(func() error {
			err := t.fetchFile(ctx, repo, d, open)
			if errors.Is(err, blob.ErrDigest) && ctx.Err() == nil {
				err = t.fetchFile(ctx, repo, d, open) // see pullFrom
			}
			return err
		})
	}
	return g.Wait()
}

func (t *Transfer) fetchFile(ctx context.Context, repo *registry.Repository, d oci.Descriptor, open *decryptor) error {
	t.notify(Event{Kind: Blob, Blob: d.Digest, Size: d.Size})
	w, err := t.Images.Blobs().Writer(ctx, d.Digest, d.Size)
	if errors.Is(err, fs.ErrExist) {
		t.notify(Event{Kind: Exists, Blob: d.Digest, Size: d.Size})
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	var r io.Reader
	if open != nil && open.layers[d.Digest].Digest != "" {
		in, c, err := open.read(ctx, repo, d.Digest)
		if err != nil {
			return err
		}
		defer c.Close()
		// The cipher is read from its start.
		if _, err := io.CopyN(io.Discard, in, w.Offset()); err != nil {
			return err
		}
		r = in
	} else {
		in, err := repo.Blob(ctx, d, w.Offset())
		if err != nil {
			return err
		}
		defer in.Close()
		r = in
	}
	if _, err := io.Copy(w, &meter{t: t, r: r, blob: d.Digest, size: d.Size, n: w.Offset()}); err != nil {
		return err
	}
	if _, _, err := w.Commit(); err != nil {
		return err
	}
	t.notify(Event{Kind: Done, Blob: d.Digest, Size: d.Size})
	return nil
}

// PushArtifact sends an artifact, as it is stored, to the registry that its name
// says.
func (t *Transfer) PushArtifact(ctx context.Context, name string, o PushOptions) (Pushed, image.Artifact, error) {
	hold, err := t.Images.Hold(ctx)
	if err != nil {
		return Pushed{}, image.Artifact{}, err
	}
	defer hold.Release()
	a, err := t.Images.FindArtifact(ctx, name)
	if err != nil {
		return Pushed{}, a, err
	}
	ref, repo, err := t.destination(ctx, a.Name.String())
	if err != nil {
		return Pushed{}, a, err
	}
	t.notify(Event{Kind: Signatures})
	p := &push{t: t, repo: repo, ref: ref, o: o}
	size, err := p.manifest(ctx, a.Digest, a.Type, ref.Tag)
	if err == nil {
		err = t.sign(ctx, repo, ref, a.Digest, o.Sign)
	}
	if err != nil {
		return Pushed{}, a, pushHint(fmt.Errorf("push to %s: %w", ref, err), ref)
	}
	return Pushed{ref, a.Digest, size}, a, nil
}
