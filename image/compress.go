package image

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// A Compression of a layer or an archive.
type Compression string

// The kinds of compression that are read; Gzip and Zstd are also written.
const (
	Uncompressed Compression = ""
	Gzip         Compression = "gzip"
	Zstd         Compression = "zstd"
	Xz           Compression = "xz"
	Bzip2        Compression = "bzip2"
	// ZstdChunked is zstd with a table of the files, from which some readers
	// fetch only what they lack. It is read as plain zstd.
	ZstdChunked Compression = "zstd:chunked"
)

// magics are how compressed files begin.
var magics = []struct {
	c     Compression
	begin []byte
}{
	{Gzip, []byte{0x1f, 0x8b}},
	{Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd}},
	{Xz, []byte{0xfd, '7', 'z', 'X', 'Z', 0}},
	{Bzip2, []byte("BZh")},
}

// DetectCompression tells the compression of what begins with begin, of which
// six bytes suffice. A zstd stream may begin with skippable frames
// (zstd:chunked has them at the end only).
func DetectCompression(begin []byte) Compression {
	for _, m := range magics {
		if bytes.HasPrefix(begin, m.begin) {
			return m.c
		}
	}
	if len(begin) >= 4 && begin[0]&0xf0 == 0x50 && bytes.Equal(begin[1:4], []byte{0x2a, 0x4d, 0x18}) {
		return Zstd
	}
	return Uncompressed
}

// A Codec reads and writes compressed data; the kinds are those of Compression.
// It is not this package's: tables for compressors would cost each start of the
// engine a fifth of a millisecond.
type Codec interface {
	// Decompress returns what r holds. Closing it does not close r.
	Decompress(r io.Reader, kind string) (io.ReadCloser, error)
	// Compress returns a writer that compresses to w. Its Close flushes and
	// does not close w. The zero level is the usual one.
	Compress(w io.Writer, kind string, level int) (io.WriteCloser, error)
}

// Decompress returns what r holds uncompressed, and how it was compressed.
// Closing it does not close r.
func Decompress(k Codec, r io.Reader) (io.ReadCloser, Compression, error) {
	b := bufio.NewReaderSize(r, 256<<10)
	begin, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	c := DetectCompression(begin)
	var z io.ReadCloser
	switch {
	case c == Uncompressed:
		return io.NopCloser(b), c, nil
	case c == Xz:
		z, err = unxz(b)
	case k == nil:
		err = errNoCodec
	default:
		z, err = k.Decompress(b, string(c))
	}
	if err != nil {
		return nil, c, fmt.Errorf("decompress %s: %w", c, err)
	}
	return z, c, nil
}

// Compress returns a writer that compresses to w. Its Close flushes and does
// not close w. The zero level is the usual one.
func Compress(k Codec, w io.Writer, c Compression, level int) (z io.WriteCloser, err error) {
	switch {
	case c == Uncompressed:
		return nopWriteCloser{w}, nil
	case k == nil:
		err = errNoCodec
	default:
		z, err = k.Compress(w, string(c), level)
	}
	if err != nil {
		return nil, fmt.Errorf("compress %s: %w", c, err)
	}
	return z, nil
}

var errNoCodec = errors.New("this store was opened without a codec")

type nopWriteCloser struct{ io.Writer }

func (nopWriteCloser) Close() error { return nil }

// layerTypes are the media types of layers by compression, of OCI and docker.
var layerTypes = map[Compression][2]string{
	Uncompressed: {"application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"},
	Gzip:         {"application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"},
	Zstd:         {"application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.zstd"},
}

// LayerType is the media type of a layer that is compressed so.
func LayerType(c Compression, docker bool) string {
	if c == ZstdChunked {
		c = Zstd
	}
	if docker {
		return layerTypes[c][1]
	}
	return layerTypes[c][0]
}

// LayerCompression is the inverse of LayerType.
func LayerCompression(mediaType string) (c Compression, ok bool) {
	for c, t := range layerTypes {
		if mediaType == t[0] || mediaType == t[1] {
			return c, true
		}
	}
	return "", false
}
