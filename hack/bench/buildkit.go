package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

// A buildkit is a daemon of BuildKit's, rootful, on a store of the bench's own,
// and how to ask it for builds. It takes base images from directories: nothing
// is fetched.
//
// Debian has no package of it. It is built from the Go module proxy, by a module
// of one's own that imports github.com/moby/buildkit/cmd/buildkitd and
// cmd/buildctl, and repeats the exclude lines of BuildKit's go.mod ("go install"
// refuses those); then the two programs are put into PATH, beside runc or crun.
type buildkit struct {
	b      *bench
	socket string
	daemon *exec.Cmd
}

// buildkit starts the daemon in a place, nil where the programs are missing.
func (b *bench) buildkit(p *place) (*buildkit, error) {
	runtime := ""
	for _, r := range []string{"runc", "crun"} {
		if runtime == "" {
			runtime = installed(r)
		}
	}
	if installed("buildkitd") == "" || installed("buildctl") == "" || runtime == "" {
		return nil, nil
	}
	dir := filepath.Join(b.dir, "buildkit")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	k := &buildkit{b: b, socket: filepath.Join(dir, "socket")}
	argv := p.in([]string{"buildkitd", "--config", os.DevNull, "--root", filepath.Join(dir, "root"), "--addr", "unix://" + k.socket, "--containerd-worker=false",
		"--oci-worker=true", "--oci-worker-binary", runtime, "--oci-worker-snapshotter", "overlayfs", "--oci-worker-net", "host"})
	k.daemon = b.command(argv)
	k.daemon.Stdout, k.daemon.Stderr = log, log
	if err := k.daemon.Start(); err != nil {
		return nil, err
	}
	b.undo = append(b.undo, k.stop)
	for range 300 {
		if b.command(k.argv("debug", "workers")).Run() == nil {
			return k, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	k.stop()
	return nil, fmt.Errorf("buildkitd does not answer: %s", text)
}

// stop ends the daemon; more than once does nothing.
func (k *buildkit) stop() {
	if k == nil || k.daemon.ProcessState != nil {
		return
	}
	_ = k.daemon.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(20*time.Second, func() { _ = k.daemon.Process.Kill() })
	defer late.Stop()
	_ = k.daemon.Wait() // it ends by the signal
}

func (k *buildkit) argv(args ...string) []string {
	return append([]string{"buildctl", "--addr", "unix://" + k.socket}, args...)
}

var layoutDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// build is the command line of one: dir has a Containerfile, base is an image of
// Hull's store that it is FROM, "" for none.
func (k *buildkit) build(dir, base string, more ...string) ([]string, error) {
	args := []string{"build", "--progress", "plain", "--frontend", "dockerfile.v0", "--local", "context=" + dir, "--local", "dockerfile=" + dir, "--opt", "filename=Containerfile",
		"--output", "type=image,name=bench,push=false"}
	if base != "" {
		layout := filepath.Join(k.b.dir, "layout-"+filepath.Base(dir))
		if out, err := k.b.command(k.b.hull("save", "-q", "--format", "oci-dir", "-o", layout, base)).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("save %s: %w: %s", base, err, out)
		}
		index, err := os.ReadFile(filepath.Join(layout, "index.json"))
		if err != nil {
			return nil, err
		}
		digest := layoutDigest.Find(index)
		if digest == nil {
			return nil, errors.New("the saved image has no digest")
		}
		args = append(args, "--oci-layout", "base="+layout, "--opt", fmt.Sprintf("context:%s=oci-layout://base@%s", base, digest))
	}
	return k.argv(append(args, more...)...), nil
}
