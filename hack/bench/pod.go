package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// pod measures a container that joins a pod's namespaces.
func (b *bench) pod() (*group, error) {
	if _, err := output(b.hull("pod", "create", "--name", "bench")...); err != nil {
		return nil, err
	}
	if _, err := output(b.hull("pod", "start", "bench")...); err != nil {
		return nil, err
	}
	remove := func() { b.command(b.hull("pod", "rm", "-f", "-t", "0", "bench")).Run() }
	b.undo = append(b.undo, remove)
	g := &group{name: "pod", about: "a container in a pod that runs, to its end", rounds: 60, limit: 2, after: remove}
	g.add("floor", filepath.Join(b.dir, "floor"), b.rootfs, "/bin/true")
	g.add("hull run --pod", b.hull("run", "--rm", "--pod", "bench", "localhost/bench:1", "true")...)
	return g, nil
}

// podLimit is the most that a pod with three containers may take, in ms.
const podLimit = 100

// podCreate measures a pod and three containers in it, up to the last one's
// start. What is left of a round is removed outside of the measurement.
func (b *bench) podCreate() (*group, error) {
	g := &group{name: "podcreate", about: fmt.Sprintf("pod create and three containers started, four commands; budget %d ms", podLimit), rounds: 20}
	script := func(program []string, image string) string {
		p := strings.Join(program, " ")
		text := "set -e; " + p + " pod create --name four >/dev/null"
		for range 3 {
			text += "; " + p + " run -d --pod four " + image + " sleep 1000 >/dev/null"
		}
		return text
	}
	add := func(name string, program []string, image string) {
		g.add(name, "sh", "-c", script(program, image))
		remove := func() { b.command(append(program, "pod", "rm", "-f", "-t", "0", "four")).Run() }
		g.list[len(g.list)-1].before = remove
		b.undo = append(b.undo, remove)
	}
	add("hull", b.hull(), "localhost/bench:1")
	if p := installed("podman"); p != "" {
		podman := []string{p, "--root", filepath.Join(b.dir, "podman"), "--runroot", filepath.Join(b.dir, "podman-run")}
		// Its infra container wants an image with a command.
		if _, err := output(append(podman, "import", "--change", `CMD ["/bin/sleep", "100000"]`, filepath.Join(b.dir, "rootfs.tar"), "localhost/bench:1")...); err != nil {
			return nil, err
		}
		conf, err := os.OpenFile(os.Getenv("CONTAINERS_CONF"), os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = conf.WriteString("[engine]\ninfra_image = \"localhost/bench:1\"\n")
			conf.Close()
		}
		if err != nil {
			return nil, err
		}
		add("podman", podman, "localhost/bench:1")
	}
	g.after = func() {
		for _, c := range g.list {
			c.before()
		}
	}
	return g, nil
}
