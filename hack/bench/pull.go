package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// floorScript is the least that a pull can be: each layer fetched, inflated and
// unpacked, two at a time, then on the disk.
const floorScript = `#!/bin/sh
# REPOSITORY-URL DIR DIGEST…
url=$1 dir=$2; shift 2
mkdir -p "$dir"
printf '%s\n' "$@" | xargs -P 2 -I D sh -c 'mkdir "$2/$3" && curl -sSf "$1/blobs/$3" | gzip -dc | tar -x -C "$2/$3"' - "$url" "$dir" D
sync -f "$dir"
`

// pull measures the pull of a large image from a registry on loopback. The
// image takes minutes to make, so this group runs only when it is named.
func (b *bench) pull() (*group, error) {
	if installed("docker-registry") == "" || installed("skopeo") == "" {
		return nil, errors.New("pull: docker-registry and skopeo are not installed")
	}
	address, err := b.registry()
	if err != nil {
		return nil, err
	}
	layout := filepath.Join(b.dir, "big")
	for _, argv := range [][]string{
		{"go", "run", "./hack/bigimage", layout},
		{"skopeo", "copy", "--dest-tls-verify=false", "oci:" + layout + ":latest", "docker://" + address + "/big:latest"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", argv[0], err, out)
		}
	}
	layers, err := layersOf("http://" + address + "/v2/big/manifests/latest")
	if err != nil {
		return nil, err
	}
	script := filepath.Join(b.dir, "pullfloor")
	if err := os.WriteFile(script, []byte(floorScript), 0o755); err != nil {
		return nil, err
	}
	into := func(name string) (dir string, before func()) {
		dir = filepath.Join(b.dir, name)
		return dir, func() { os.RemoveAll(dir); exec.Command("sync", "-f", b.dir).Run() }
	}
	g := &group{name: "pull", about: fmt.Sprintf("an image of %d layers from a registry on loopback, to the disk", len(layers)), rounds: 5, limit: 0.8}
	dir, before := into("pulled-floor")
	g.add("curl, gzip, tar", append([]string{script, "http://" + address + "/v2/big", dir}, layers...)...)
	g.list[0].before = before
	dir, before = into("pulled-hull")
	g.add("hull pull", filepath.Join(b.bin, "hull"), "--root", dir, "--runroot", filepath.Join(b.dir, "run", "pull"), "pull", "-q", "--tls-verify=false", address+"/big:latest")
	g.list[1].before = before
	if installed("podman") != "" {
		dir, before = into("pulled-podman")
		g.addPeer("podman pull", "podman", "--root", dir, "--runroot", filepath.Join(b.dir, "podman-run", "pull"), "pull", "-q", "--tls-verify=false", address+"/big:latest")
		g.list[2].before = before
	}
	return g, nil
}

// registry starts one on a free port of loopback, which ends with the bench.
func (b *bench) registry() (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address = l.Addr().String()
	l.Close()
	conf := filepath.Join(b.dir, "registry.yml")
	text := "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: " + filepath.Join(b.dir, "registry") + "}}\nhttp: {addr: " + address + "}\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return "", err
	}
	cmd := exec.Command("docker-registry", "serve", conf)
	if err := cmd.Start(); err != nil {
		return "", err
	}
	b.undo = append(b.undo, func() { cmd.Process.Kill(); cmd.Wait() })
	for range 100 {
		if r, err := http.Get("http://" + address + "/v2/"); err == nil {
			r.Body.Close()
			return address, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "", errors.New("the registry does not answer")
}

// layersOf are the digests of a manifest's layers.
func layersOf(url string) ([]string, error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	var m struct{ Layers []struct{ Digest string } }
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		return nil, err
	}
	var out []string
	for _, l := range m.Layers {
		if !strings.HasPrefix(l.Digest, "sha256:") {
			return nil, fmt.Errorf("digest %q", l.Digest)
		}
		out = append(out, l.Digest)
	}
	return out, nil
}
