package layer

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkApply unpacks the archive that HULL_BENCH_TAR names; compare with
// tar -x of the same file.
func BenchmarkApply(b *testing.B) {
	name := os.Getenv("HULL_BENCH_TAR")
	if name == "" {
		b.Skip("HULL_BENCH_TAR names no archive")
	}
	for range b.N {
		b.StopTimer()
		root := filepath.Join(b.TempDir(), "root")
		os.Mkdir(root, 0o755)
		dir, err := os.Open(root)
		if err != nil {
			b.Fatal(err)
		}
		in, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := Apply(context.Background(), dir, in, ApplyOptions{Whiteouts: Overlay}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		in.Close()
		dir.Close()
		os.RemoveAll(root)
		b.StartTimer()
	}
}
