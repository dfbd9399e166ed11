package engine

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"hull/image"
	"hull/oci"
)

// welcomeName is the image that comes with the installation. The name never
// goes to a registry.
const welcomeName = "hull/welcome"

// welcome is the built-in image: one layer with the program hull-welcome, made
// of the installation's own file when it is first asked for.
func (e *Engine) welcome() image.Builtin {
	name, err := oci.ParseReference("localhost/" + welcomeName + ":latest")
	if err != nil {
		panic("bug: " + err.Error())
	}
	return image.Builtin{Name: name, Open: func() (io.ReadCloser, error) {
		program, err := os.ReadFile(filepath.Join(e.o.LibexecDir, "hull-welcome"))
		if err != nil {
			return nil, fmt.Errorf("make image %s: %w", welcomeName, err)
		}
		archive, err := welcomeArchive(program)
		if err != nil {
			return nil, fmt.Errorf("make image %s: %w", welcomeName, err)
		}
		return io.NopCloser(bytes.NewReader(archive)), nil
	}}
}

// welcomeArchive is the image of the program hull-welcome.
func welcomeArchive(program []byte) ([]byte, error) {
	files := []builtinFile{{"etc/passwd", 0o644, []byte("root:x:0:0:root:/:/welcome\n")}, {"etc/group", 0o644, []byte("root:x:0:\n")}, {"welcome", 0o755, program}}
	return builtinArchive(welcomeName, files, oci.ImageConfig{Entrypoint: []string{"/welcome"}, Env: []string{"PATH=/"}, ExposedPorts: map[string]struct{}{"8080/tcp": {}}})
}

// A builtinFile is one of the files of an image that is made here.
type builtinFile struct {
	name    string
	mode    int64
	content []byte
}

// builtinArchive is a docker-archive of one layer. The same files give the same
// bytes, and so the same image ID.
func builtinArchive(name string, files []builtinFile, c oci.ImageConfig) ([]byte, error) {
	var layer bytes.Buffer
	t := tar.NewWriter(&layer)
	begin := time.Unix(0, 0)
	dirs := []string{"dev/", "etc/", "proc/", "sys/", "tmp/"}
	for _, f := range files {
		if d, _, ok := strings.Cut(f.name, "/"); ok && !slices.Contains(dirs, d+"/") {
			dirs = append([]string{d + "/"}, dirs...)
		}
	}
	for _, d := range dirs {
		mode := int64(0o755)
		if d == "tmp/" {
			mode = 0o1777
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: mode, ModTime: begin}); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		if err := writeTar(t, f.name, f.mode, f.content, begin); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	created := begin.UTC()
	c.Labels = map[string]string{"org.opencontainers.image.title": name, "org.opencontainers.image.version": Version()}
	config, err := json.Marshal(oci.Image{
		Created: &created, Architecture: runtime.GOARCH, OS: "linux",
		Config:  c,
		RootFS:  oci.RootFS{Type: "layers", DiffIDs: []oci.Digest{oci.FromBytes(layer.Bytes())}},
		History: []oci.History{{Created: &created, CreatedBy: "hull " + Version()}},
	})
	if err != nil {
		return nil, err
	}
	id := oci.FromBytes(config).Hex()
	manifest, err := json.Marshal([]map[string]any{{"Config": id + ".json", "RepoTags": []string{"localhost/" + name + ":latest"}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	t = tar.NewWriter(&out)
	for _, f := range []struct {
		name    string
		content []byte
	}{{"layer.tar", layer.Bytes()}, {id + ".json", config}, {"manifest.json", manifest}} {
		if err := writeTar(t, f.name, 0o644, f.content, begin); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), t.Close()
}

func writeTar(t *tar.Writer, name string, mode int64, content []byte, mtime time.Time) error {
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: mtime}); err != nil {
		return err
	}
	_, err := t.Write(content)
	return err
}
