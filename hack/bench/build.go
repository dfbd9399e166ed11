package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// steps is how many RUN the file of the first two groups has.
const steps = 20

// build measures builds: all from the cache, all anew, a large tree, and, with
// HULL_BENCH_DEBIAN naming a root file system of Debian as a tar, packages.
func (b *bench) build() (*group, error) {
	for _, f := range []func() (*group, error){b.buildSteps, b.buildTree, b.buildPackages} {
		if _, err := f(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// podman is the peer on a store of the bench's own, nil where it is missing.
func (b *bench) podman() []string {
	if installed("podman") == "" {
		return nil
	}
	return []string{"podman", "--cgroup-manager", "cgroupfs", "--root", filepath.Join(b.dir, "podman"), "--runroot", filepath.Join(b.dir, "podman-run")}
}

// importFor gives the peer an image, and Hull one that it has not.
func (b *bench) importFor(podman []string, tar, name string) error {
	commands := [][]string{podman}
	if b.command(b.hull("image", "exists", name)).Run() != nil {
		commands = append(commands, b.hull())
	}
	for _, c := range commands {
		if c == nil {
			continue
		}
		if out, err := b.command(append(c, "import", "--change", `CMD ["/bin/sh"]`, "--change", "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", tar, name)).CombinedOutput(); err != nil {
			return fmt.Errorf("import %s: %w: %s", name, err, out)
		}
	}
	return nil
}

// context makes a build's directory.
func (b *bench) context(name, containerfile string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "Containerfile"), []byte(containerfile), 0o644)
}

func (b *bench) buildSteps() (*group, error) {
	podman := b.podman()
	if err := b.importFor(podman, filepath.Join(b.dir, "rootfs.tar"), "localhost/bench:1"); err != nil {
		return nil, err
	}
	text := "FROM localhost/bench:1\n"
	for i := range steps {
		text += fmt.Sprintf("RUN echo %d > /f%d\n", i, i)
	}
	dir, err := b.context("steps", text)
	if err != nil {
		return nil, err
	}
	if _, err := b.version(); err != nil { // for the empty program
		return nil, err
	}
	cached := &group{name: "build cached", about: fmt.Sprintf("%d RUN, all kept from before", steps), rounds: 20}
	cold := &group{name: "build cold", about: fmt.Sprintf("%d RUN, all done anew", steps), rounds: 3}
	if cold.place, err = b.newPlace(); err != nil {
		return nil, err
	}
	args := []string{"build", "-q", "--no-cache", "--cgroup-parent", cold.place.name, "-t", "steps", dir}
	if podman != nil {
		cached.add("podman build", append(podman, "build", "-q", "--layers", "-t", "steps", dir)...)
		cold.add("podman build", append(podman, slices.Insert(slices.Clone(args), 1, "--layers")...)...)
	}
	cached.add("hull build", b.hull("build", "-q", "-t", "steps", dir)...)
	cached.add("an empty Go program", filepath.Join(b.dir, "empty"))
	cold.add("hull build", b.hull(args...)...)
	cached.limit, cold.limit = 0.1, 0.1
	k, err := b.buildkit(cold.place)
	if err != nil {
		return nil, err
	}
	defer k.stop()
	if k != nil {
		argv, err := k.build(dir, "localhost/bench:1")
		if err != nil {
			return nil, err
		}
		cached.add("buildkit", argv...)
		cold.add("buildkit", append(argv, "--no-cache", "--opt", "cgroup-parent="+cold.place.beside("buildkit"))...)
	}
	for _, g := range []*group{cached, cold} {
		g.measure()
		g.print()
	}
	return nil, nil
}

// buildTree copies 500 MB: 5000 files, half of their bytes random.
func (b *bench) buildTree() (*group, error) {
	dir, err := b.context("tree", "FROM scratch\nCOPY data /data\n")
	if err != nil {
		return nil, err
	}
	block := make([]byte, 100<<10)
	for i := range 5000 {
		if i%50 == 0 {
			if err := os.MkdirAll(filepath.Join(dir, "data", fmt.Sprint(i/50)), 0o755); err != nil {
				return nil, err
			}
		}
		rand.Read(block[:len(block)/2])
		if err := os.WriteFile(filepath.Join(dir, "data", fmt.Sprint(i/50), fmt.Sprint(i)), block, 0o644); err != nil {
			return nil, err
		}
	}
	g := &group{name: "build tree", about: "COPY of 500 MB, and the image of it", rounds: 3, limit: 1.3}
	if g.place, err = b.newPlace(); err != nil {
		return nil, err
	}
	packer := "gzip"
	if installed("pigz") != "" {
		packer = "pigz"
	}
	g.add("tar | "+packer, "sh", "-c", fmt.Sprintf("tar -C %s -c data | %s > %s", dir, packer, filepath.Join(b.dir, "tree.tar.gz")))
	g.add("hull build", b.hull("build", "-q", "--no-cache", "-t", "tree", dir)...)
	g.list[1].before = func() { // neither the layer nor the sums of the files are there
		b.command(b.hull("rmi", "-f", "tree")).Run()
		b.command(b.hull("builder", "prune", "-af")).Run()
		os.RemoveAll(filepath.Join(b.dir, "root", "build"))
	}
	k, err := b.buildkit(g.place)
	if err != nil {
		return nil, err
	}
	defer k.stop()
	if k != nil {
		argv, err := k.build(dir, "")
		if err != nil {
			return nil, err
		}
		g.add("buildkit", argv...)
		g.list[2].before = func() { b.command(k.argv("prune", "--all")).Run() }
	}
	g.measure()
	g.print()
	g.list[1].before()
	return nil, os.RemoveAll(dir)
}

// buildPackages installs packages of Debian, which are fetched from its mirror.
func (b *bench) buildPackages() (*group, error) {
	base, podman := os.Getenv("HULL_BENCH_DEBIAN"), b.podman()
	if base == "" {
		return nil, nil
	}
	proxy, err := serveMirror()
	if err != nil {
		return nil, err
	}
	if err := b.importFor(podman, base, "localhost/debian:1"); err != nil {
		return nil, err
	}
	dir, err := b.context("packages", "FROM localhost/debian:1\nRUN apt-get update && apt-get install -qy --no-install-recommends "+
		strings.Join([]string{"curl", "python3-minimal"}, " ")+" && rm -rf /var/lib/apt/lists/*\n")
	if err != nil {
		return nil, err
	}
	g := &group{name: "build packages", about: "apt-get install in a RUN, a mirror on the loopback", rounds: 3, limit: 1}
	if g.place, err = b.newPlace(); err != nil {
		return nil, err
	}
	args := []string{"build", "-q", "--no-cache", "--network", "host", "--cgroup-parent", g.place.name, "--build-arg", "http_proxy=" + proxy, "-t", "packages", dir}
	if podman != nil {
		g.add("podman build", append(podman, args...)...)
	}
	g.add("hull build", b.hull(args...)...)
	k, err := b.buildkit(g.place)
	if err != nil {
		return nil, err
	}
	defer k.stop()
	if k != nil {
		argv, err := k.build(dir, "localhost/debian:1", "--no-cache", "--opt", "cgroup-parent="+g.place.beside("buildkit"), "--opt", "build-arg:http_proxy="+proxy)
		if err != nil {
			return nil, err
		}
		g.add("buildkit", argv...)
	}
	g.measure()
	g.print()
	return nil, nil
}
