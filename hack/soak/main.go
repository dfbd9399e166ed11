// Soak makes, starts, enters and removes containers by the thousand, eight at
// once, and kills some of the commands meanwhile; then it lets a thousand run
// at once. It prints what grew and exits with 1 when something did.
//
// Counts are taken from the environment: SOAK_RUNS (20000), SOAK_MANY (1000),
// SOAK_WORKERS (8), SOAK_KILLS (one lifecycle in how many is killed: 25), and
// SOAK_SEED.
package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("it needs root")
	}
	s, err := newSoak()
	if err != nil {
		return err
	}
	defer s.close()
	var grown []string
	if s.runs > 0 {
		g, err := s.lives()
		if err != nil {
			return err
		}
		grown = append(grown, g...)
	}
	if s.many > 0 {
		g, err := s.atOnce()
		if err != nil {
			return err
		}
		grown = append(grown, g...)
	}
	for _, g := range grown {
		fmt.Println("GROWN:", g)
	}
	if len(grown) > 0 {
		return fmt.Errorf("%d figures are beyond their limit", len(grown))
	}
	fmt.Println("nothing grew")
	return nil
}

// A soak is a store of its own with one image, and the counts.
type soak struct {
	bin, dir                   string
	runs, many, workers, kills int
	seed                       uint64
	subnet                     string
}

const (
	image = "localhost/soak:1"
	net   = "soak"
)

func count(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

func newSoak() (*soak, error) {
	bin, err := filepath.Abs("bin/hull")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("run make build first: %w", err)
	}
	// The engine is the one of now, also when it is built anew meanwhile.
	dir, err := os.MkdirTemp("/var/tmp", "hull-soak-")
	if err != nil {
		return nil, err
	}
	s := &soak{bin: filepath.Join(dir, "bin/hull"), dir: dir, runs: count("SOAK_RUNS", 20000), many: count("SOAK_MANY", 1000),
		workers: count("SOAK_WORKERS", 8), kills: count("SOAK_KILLS", 25), seed: uint64(count("SOAK_SEED", int(time.Now().UnixNano()))),
		subnet: fmt.Sprintf("10.%d.0.0/20", 100+os.Getpid()%100)}
	if out, err := exec.Command("cp", "-r", filepath.Dir(bin), filepath.Join(dir, "bin")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("copy the engine: %w: %s", err, out)
	}
	c := s.command("import", "-", image)
	c.Stdin, err = busybox()
	if err != nil {
		return nil, err
	}
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("import: %w: %s", err, out)
	}
	if out, err := s.command("network", "create", "--disable-dns", "--subnet", s.subnet, net).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("network create: %w: %s", err, out)
	}
	return s, nil
}

func (s *soak) command(args ...string) *exec.Cmd {
	return exec.Command(s.bin, append([]string{"--root", filepath.Join(s.dir, "root"), "--runroot", filepath.Join(s.dir, "run")}, args...)...)
}

func (s *soak) close() {
	s.command("rm", "-af", "-t", "0").Run()
	s.command("network", "rm", "-f", net).Run()
	s.command("system", "reset", "-f").Run()
	os.RemoveAll(s.dir)
}

// busybox is an image's tree as a tar archive.
func busybox() (io.Reader, error) {
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, fmt.Errorf("needs Debian's busybox-static: %w", err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		w.WriteHeader(&h)
		w.Write(data)
	}
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc", "tmp"} {
		add(tar.Header{Name: d + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, data)
	for _, a := range []string{"sh", "echo", "sleep", "true"} {
		add(tar.Header{Name: "bin/" + a, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
	}
	return &b, w.Close()
}
