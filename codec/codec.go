// Package codec compresses and decompresses layers and archives: gzip with all
// processors, zstd, and bzip2 to read.
package codec

import (
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// maxWindow bounds the memory that a zstd stream may ask for.
const maxWindow = 128 << 20

// A Codec does it in this process. The zero value is ready.
type Codec struct{}

// Decompress returns what r holds; kind is "gzip", "zstd", "zstd:chunked" or
// "bzip2". Closing it does not close r.
func (Codec) Decompress(r io.Reader, kind string) (io.ReadCloser, error) {
	switch kind {
	case "gzip":
		return gzip.NewReader(r)
	case "zstd", "zstd:chunked":
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(r)), nil
	}
	return nil, fmt.Errorf("the kind %q is not known", kind)
}

// Compress returns a writer that compresses to w; kind is "gzip" or "zstd". Its
// Close flushes and does not close w. The zero level is the usual one.
func (Codec) Compress(w io.Writer, kind string, level int) (io.WriteCloser, error) {
	switch kind {
	case "gzip":
		if level == 0 {
			level = gzip.DefaultCompression
		}
		z, err := pgzip.NewWriterLevel(w, level)
		if err != nil {
			return nil, err
		}
		return z, z.SetConcurrency(1<<20, max(runtime.GOMAXPROCS(0), 1))
	case "zstd":
		l := zstd.SpeedDefault
		if level != 0 {
			l = zstd.EncoderLevelFromZstd(level)
		}
		return zstd.NewWriter(w, zstd.WithEncoderLevel(l))
	}
	return nil, errors.New("this kind is only read")
}
