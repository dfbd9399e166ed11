// Bigimage writes an image of Debian packages as an OCI layout, one layer for
// each group of packages, for measuring pulls:
//
//	go run ./hack/bigimage DIR
//	skopeo copy --dest-tls-verify=false oci:DIR:latest docker://127.0.0.1:5000/big:latest
//
// It needs apt-get and dpkg-deb. With the groups below, Debian 12 gives 9 layers,
// about 286 MB of gzip.
package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"hull/oci"
)

var groups = []string{
	"libc6 bash coreutils dpkg tar perl-base util-linux libssl3 busybox-static",
	"python3.11-minimal libpython3.11-minimal libpython3.11-stdlib python3.11",
	"perl perl-modules-5.36 libperl5.36 git git-man",
	"gcc-12 cpp-12 libgcc-12-dev",
	"g++-12 libstdc++-12-dev libc6-dev linux-libc-dev",
	"libllvm14 libclang-cpp14 libclang1-14",
	"openjdk-17-jre-headless",
	"libicu72 libsqlite3-0 sqlite3",
	"php8.2-cli php8.2-common libxml2",
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: bigimage DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "bigimage:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	debs, err := os.MkdirTemp("", "bigimage-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(debs)
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	config := oci.Image{Architecture: oci.HostPlatform().Architecture, OS: "linux", RootFS: oci.RootFS{Type: "layers"}}
	config.Config.Cmd = []string{"/bin/bash"}
	config.Config.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest}
	for i, g := range groups {
		layer, diff, err := writeLayer(dir, debs, strings.Fields(g))
		if err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		fmt.Fprintf(os.Stderr, "layer %d: %d bytes\n", i, layer.Size)
		m.Layers = append(m.Layers, layer)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diff)
		config.History = append(config.History, oci.History{CreatedBy: g})
	}
	if m.Config, err = writeJSON(dir, oci.MediaTypeConfig, config); err != nil {
		return err
	}
	d, err := writeJSON(dir, oci.MediaTypeManifest, m)
	if err != nil {
		return err
	}
	d.Annotations = map[string]string{oci.AnnotationRefName: "latest"}
	index, err := json.Marshal(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{d}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

func writeJSON(dir, mediaType string, v any) (oci.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return oci.Descriptor{}, err
	}
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(data), Size: int64(len(data))}
	return d, os.WriteFile(filepath.Join(dir, "blobs", "sha256", d.Digest.Hex()), data, 0o644)
}

// writeLayer writes the files of the packages as one layer.
func writeLayer(dir, debs string, packages []string) (oci.Descriptor, oci.Digest, error) {
	get := exec.Command("apt-get", append([]string{"download", "-q", "-o", "APT::Sandbox::User=root"}, packages...)...)
	get.Dir, get.Stderr = debs, os.Stderr
	if err := get.Run(); err != nil {
		return oci.Descriptor{}, "", fmt.Errorf("apt-get download: %w", err)
	}
	f, err := os.CreateTemp(dir, "layer-")
	if err != nil {
		return oci.Descriptor{}, "", err
	}
	defer f.Close()
	packed, plain := sha256.New(), sha256.New()
	z := gzip.NewWriter(io.MultiWriter(f, packed))
	t := tar.NewWriter(io.MultiWriter(z, plain))
	seen := map[string]bool{}
	for _, p := range packages {
		found, err := filepath.Glob(filepath.Join(debs, p+"_*.deb"))
		if err != nil || len(found) != 1 {
			return oci.Descriptor{}, "", fmt.Errorf("package %s: %d files", p, len(found))
		}
		if err := addPackage(t, found[0], seen); err != nil {
			return oci.Descriptor{}, "", fmt.Errorf("package %s: %w", p, err)
		}
	}
	for _, c := range []io.Closer{t, z} {
		if err := c.Close(); err != nil {
			return oci.Descriptor{}, "", err
		}
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return oci.Descriptor{}, "", err
	}
	d := oci.Descriptor{MediaType: oci.MediaTypeLayerGzip, Digest: oci.NewDigest(packed.Sum(nil)), Size: size}
	return d, oci.NewDigest(plain.Sum(nil)), os.Rename(f.Name(), filepath.Join(dir, "blobs", "sha256", d.Digest.Hex()))
}

// addPackage copies the files of a package, each directory once.
func addPackage(t *tar.Writer, deb string, seen map[string]bool) error {
	c := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	for r := tar.NewReader(out); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if name := filepath.Clean(h.Name); name == "." || seen[name] {
			continue
		} else {
			seen[name] = true
		}
		h.Format = tar.FormatPAX
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(t, r); err != nil {
			return err
		}
	}
	return c.Wait()
}
