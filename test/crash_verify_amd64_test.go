package test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// verifyImages reads the store's raw files: each blob is what its name says,
// and each layer of each image is, file by file, what its archive says (I3).
// It shares no code with hull, so that one mistake cannot hide in both.
func (l *lab) verifyImages() {
	root := filepath.Join(l.dir, "root")
	blobs, _ := os.ReadDir(filepath.Join(root, "sha256"))
	for _, d := range blobs {
		f, err := os.Open(filepath.Join(root, "sha256", d.Name()))
		if err != nil || strings.HasPrefix(d.Name(), ".") {
			continue
		}
		h := sha256.New()
		io.Copy(h, f)
		f.Close()
		if hex.EncodeToString(h.Sum(nil)) != d.Name() {
			l.problem("blob %s has other content", d.Name())
		}
	}
	records, _ := os.ReadDir(filepath.Join(root, "images/records"))
	for _, d := range records {
		if strings.HasPrefix(d.Name(), ".") {
			continue
		}
		if err := verifyImage(root, d.Name()); err != nil {
			l.problem("image %.12s: %v", d.Name(), err)
		}
	}
	names, _ := os.ReadDir(filepath.Join(root, "images/names"))
	for _, d := range names {
		var n struct{ ID string }
		b, err := os.ReadFile(filepath.Join(root, "images/names", d.Name()))
		if strings.HasPrefix(d.Name(), ".") {
			continue
		}
		if err == nil {
			err = json.Unmarshal(b, &n)
		}
		if err == nil {
			_, err = os.Stat(filepath.Join(root, "images/records", strings.TrimPrefix(n.ID, "sha256:")))
		}
		if err != nil {
			l.problem("image name %s: %v", d.Name(), err)
		}
	}
}

func verifyImage(root, id string) error {
	var r struct {
		Manifests []struct {
			Digest string
			Layers []struct{ Digest string }
		}
		Layers []struct{ Diff string }
	}
	b, err := os.ReadFile(filepath.Join(root, "images/records", id))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "sha256", id)); err != nil {
		return fmt.Errorf("its config: %w", err)
	}
	chain := ""
	for i, layer := range r.Layers {
		if chain == "" {
			chain = layer.Diff
		} else {
			sum := sha256.Sum256([]byte(chain + " " + layer.Diff))
			chain = "sha256:" + hex.EncodeToString(sum[:])
		}
		dir := filepath.Join(root, "snapshots/l", strings.TrimPrefix(chain, "sha256:")[:16])
		if b, err := os.ReadFile(filepath.Join(dir, "chain")); err != nil || string(b) != chain {
			return fmt.Errorf("layer %s: chain %q: %w", chain, b, err)
		}
		for _, m := range r.Manifests {
			if i >= len(m.Layers) {
				return fmt.Errorf("manifest %s has %d layers", m.Digest, len(m.Layers))
			}
			blob := filepath.Join(root, "sha256", strings.TrimPrefix(m.Layers[i].Digest, "sha256:"))
			err := verifyLayer(blob, filepath.Join(dir, "d"))
			if errors.Is(err, fs.ErrNotExist) && !exist(blob) {
				continue // a layer that was built here has no archive until one asks for it
			}
			if err != nil {
				return fmt.Errorf("layer %s: %w", chain, err)
			}
		}
	}
	return nil
}

// verifyFiles reads the files that containers find names in: each is whole, and
// ends with its line (F70). And no file of the store holds the secret as it is (F71).
func (l *lab) verifyFiles() {
	for _, pattern := range []string{"hosts", "resolv.conf"} {
		files, _ := filepath.Glob(filepath.Join(l.dir, "run/containers/*", pattern))
		for _, f := range files {
			if !exist(filepath.Join(filepath.Dir(f), "state.json")) {
				continue // it does not run, and a start writes it anew
			}
			b, err := os.ReadFile(f)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if text := string(b); err != nil || !strings.HasSuffix(text, "\n") || pattern == "hosts" && !strings.Contains(text, "localhost") {
				l.problem("%s is half written: %q %v", f, b, err)
			}
		}
	}
	for _, top := range []string{"root", "run"} {
		filepath.WalkDir(filepath.Join(l.dir, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.Contains(path, "/snapshots/") || strings.Contains(path, "/sha256/") {
				return nil
			}
			if b, _ := os.ReadFile(path); bytes.Contains(b, []byte("hush\n")) || bytes.Contains(b, []byte("aHVzaAo")) { // or base64 of it
				l.problem("%s holds a secret", path)
			}
			return nil
		})
	}
}

func exist(path string) bool { _, err := os.Lstat(path); return err == nil }

// verifyLayer compares an archive's entries with a directory.
func verifyLayer(blob, dir string) error {
	f, err := os.Open(blob)
	if err != nil {
		return err
	}
	defer f.Close()
	var in io.Reader = f
	if z, err := gzip.NewReader(f); err == nil {
		in = z
	} else if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for t := tar.NewReader(in); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, h.Name)
		if strings.HasPrefix(filepath.Base(path), ".wh.") {
			continue // a mark that something is not there
		}
		st, err := os.Lstat(path)
		if err != nil {
			return err
		}
		sys := st.Sys().(*syscall.Stat_t)
		switch {
		case int(sys.Uid) != h.Uid || int(sys.Gid) != h.Gid:
			return fmt.Errorf("%s belongs to %d:%d, not %d:%d", h.Name, sys.Uid, sys.Gid, h.Uid, h.Gid)
		case h.Typeflag != tar.TypeSymlink && st.Mode().Perm() != h.FileInfo().Mode().Perm():
			return fmt.Errorf("%s has mode %v, not %v", h.Name, st.Mode(), h.FileInfo().Mode())
		case h.Typeflag == tar.TypeSymlink:
			if to, _ := os.Readlink(path); to != h.Linkname {
				return fmt.Errorf("%s leads to %s, not %s", h.Name, to, h.Linkname)
			}
		case h.Typeflag == tar.TypeReg:
			want, err := io.ReadAll(t)
			if err != nil {
				return err
			}
			if is, err := os.ReadFile(path); err != nil || !bytes.Equal(is, want) {
				return fmt.Errorf("%s has other content: %d bytes, not %d (%v)", h.Name, len(is), len(want), err)
			}
		}
	}
}
