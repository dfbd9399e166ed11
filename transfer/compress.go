package transfer

import (
	"context"
	"io"
	"maps"
	"os"
	"strings"

	"go.podman.io/storage/pkg/chunked/compressor"

	"hull/codec"
	"hull/image"
	"hull/oci"
	"hull/state"
)

// Annotations of a layer of the kind zstd:chunked.
const (
	chunkedPrefix   = "io.github.containers.zstd-chunked."
	chunkedChecksum = chunkedPrefix + "manifest-checksum"
)

func isZstd(c image.Compression) bool { return c == image.Zstd || c == image.ZstdChunked }

// addAnnotations is what a layer had, without what was true of its old bytes
// only, and what is true of the new ones.
func addAnnotations(had, made map[string]string) map[string]string {
	all := maps.Clone(made)
	for k, v := range had {
		if !strings.HasPrefix(k, chunkedPrefix) {
			all[k] = v
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// compressor compresses to w; when it is closed, notes has the annotations
// that belong to the result.
func (p *push) compressor(w io.Writer, c image.Compression, notes map[string]string) (io.WriteCloser, error) {
	if c != image.ZstdChunked {
		return image.Compress(codec.Codec{}, w, c, p.o.Level)
	}
	var level *int
	if p.o.Level != 0 {
		level = &p.o.Level
	}
	return compressor.ZstdCompressor(w, notes, level)
}

// mediaType is the type of an unchanged layer in a manifest of the format.
func mediaType(t string, c image.Compression, docker bool) string {
	if !oci.IsLayer(t) || t == image.LayerType(c, docker) {
		return t
	}
	return image.LayerType(c, docker)
}

// compress makes the blob of a layer in a nameless file.
func (p *push) compress(ctx context.Context, l image.Layer, c image.Compression) (*os.File, oci.Descriptor, error) {
	r, err := p.open(ctx, l)
	if err != nil {
		return nil, oci.Descriptor{}, err
	}
	defer r.Close()
	f, err := state.TempFile(os.TempDir())
	if err != nil {
		return nil, oci.Descriptor{}, err
	}
	w := &hashWriter{w: f, h: oci.Digest("sha256:").Hash()}
	notes := map[string]string{}
	z, err := p.compressor(w, c, notes)
	if err == nil {
		if _, err = io.Copy(z, r); err == nil {
			err = z.Close()
		}
	}
	if err != nil {
		f.Close()
		return nil, oci.Descriptor{}, err
	}
	return f, oci.Descriptor{Digest: oci.NewDigest(w.h.Sum(nil)), Size: w.n, Annotations: notes}, nil
}

// hashWriter hashes and counts what is written through it.
type hashWriter struct {
	w io.Writer
	h interface {
		io.Writer
		Sum([]byte) []byte
	}
	n int64
}

func (w *hashWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.h.Write(p[:n])
	w.n += int64(n)
	return n, err
}
