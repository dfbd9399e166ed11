package monitor

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkLog logs lines of a hundred bytes, in pieces as the pipe gives them.
func BenchmarkLog(b *testing.B) {
	dir, err := os.MkdirTemp("/dev/shm", "hull-log")
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	line := append(bytes.Repeat([]byte("0123456789"), 10)[:99], '\n')
	piece := bytes.Repeat(line, chunk/len(line)+1)[:chunk]
	for _, driver := range []string{LogK8sFile, LogJSONFile} {
		b.Run(driver, func(b *testing.B) {
			w, err := openLog(&Config{LogDriver: driver, LogPath: filepath.Join(dir, driver)})
			if err != nil {
				b.Fatal(err)
			}
			defer unix.Close(w.fd)
			defer unix.Close(w.dir)
			b.SetBytes(int64(len(piece)))
			var before, after unix.Rusage
			unix.Getrusage(unix.RUSAGE_SELF, &before)
			for i := 0; b.Loop(); i++ {
				if i%1024 == 0 {
					unix.Ftruncate(w.fd, 0)
				}
				w.write(FrameStdout, piece)
			}
			// On a busy machine the time that passes says little.
			unix.Getrusage(unix.RUSAGE_SELF, &after)
			b.ReportMetric(float64(after.Utime.Nano()-before.Utime.Nano())/float64(b.N), "user-ns/op")
			b.ReportMetric(float64(after.Stime.Nano()-before.Stime.Nano())/float64(b.N), "sys-ns/op")
		})
	}
}
