package build

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"

	"hull/image"
	"hull/layer"
	"hull/oci"
)

type reader = io.Reader

// pipeTar has use read the archive that write writes.
func pipeTar(write func(*tar.Writer) error, use func(reader) error) error {
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := tar.NewWriter(pw)
		err := write(t)
		if err == nil {
			err = t.Close()
		}
		pw.CloseWithError(err)
	}()
	err := use(pr)
	pr.CloseWithError(errors.New("nobody reads on"))
	<-done
	return err
}

// squash makes one layer of those that the stage made above its base.
func (st *stage) squash(ctx context.Context) error {
	own := st.layers[st.fresh:]
	if len(own) < 2 {
		return nil
	}
	var base oci.Digest
	if st.fresh > 0 {
		base = st.layers[st.fresh-1].Chain
	}
	l, err := st.between(ctx, base)
	if err != nil {
		return err
	}
	st.layers = append(st.layers[:st.fresh:st.fresh], l)
	last := true
	for i := len(st.config.History) - 1; i >= 0 && len(own) > 0; i-- {
		if h := &st.config.History[i]; !h.EmptyLayer {
			h.EmptyLayer = !last
			last, own = false, own[1:]
		}
	}
	return nil
}

// flatten makes one layer of all, the base's too.
func (st *stage) flatten(ctx context.Context) error {
	if len(st.layers) < 2 {
		return nil
	}
	l, err := st.between(ctx, "")
	if err != nil {
		return err
	}
	now := st.b.o.now()
	st.layers, st.fresh = []image.Layer{l}, 0
	st.config.History = []oci.History{{Created: &now, CreatedBy: "squash of " + st.from}}
	st.config.Created, st.changed = &now, true
	return nil
}

// between stores what differs from a chain to the stage's as one layer.
func (st *stage) between(ctx context.Context, base oci.Digest) (image.Layer, error) {
	top, err := st.b.Snapshots.ViewTree(st.chain())
	if err != nil {
		return image.Layer{}, err
	}
	defer top.Close()
	var below *os.File
	if base != "" {
		if below, err = st.b.Snapshots.ViewTree(base); err != nil {
			return image.Layer{}, err
		}
		defer below.Close()
	}
	changes, err := layer.Compare(ctx, below, top)
	if err != nil {
		return image.Layer{}, err
	}
	pr, pw := io.Pipe()
	go func() {
		pw.CloseWithError(layer.WriteChangesWith(ctx, pw, top, changes, layer.PackOptions{Time: st.b.o.fileTime()}))
	}()
	l, err := st.b.Images.AddLayer(ctx, base, pr, image.LayerOptions{})
	pr.CloseWithError(errors.New("the layer was not stored"))
	return l, err
}
