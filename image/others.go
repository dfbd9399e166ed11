package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"hull/oci"
	"hull/state"
)

// Other stores. What is in one belongs to whoever wrote it: it is read, never
// changed. An image that gets a name or is pulled here gets a record here, whose
// content may stay there.

func otherRecords(root string) string { return filepath.Join(root, "images", "records") }
func otherNames(root string) string   { return filepath.Join(root, "images", "names") }

// readOther is readRecord in the other stores.
func (s *Store) readOther(id oci.Digest) (*record, error) {
	for _, root := range s.Also {
		data, err := state.ReadFile(filepath.Join(otherRecords(root), recordName(id)))
		if errors.Is(err, state.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read image record: %w", err)
		}
		r, err := decodeRecord(id, data)
		if err == nil {
			r.readOnly = root
		}
		return r, err
	}
	return nil, fmt.Errorf("%s: %w", id.Hex(), ErrNotFound)
}

// own gives a record of another store a copy here.
func (s *Store) own(r *record) error {
	if r.readOnly == "" {
		return nil
	}
	r.readOnly = ""
	return s.writeRecord(r)
}

// ErrForeign reports a directory that is no store of this program's.
var ErrForeign = errors.New("this is no store of Hull's")

// CheckOther looks whether a directory can be one of Also. The error of one
// that is not is ErrForeign, and says whose it is where that can be told.
func CheckOther(root string) error {
	for _, sign := range []string{"images/records", "sha256"} {
		if fi, err := os.Stat(filepath.Join(root, sign)); err == nil && fi.IsDir() {
			return nil
		}
	}
	if _, err := os.Stat(root); err != nil {
		return fmt.Errorf("use image store: %w", err)
	}
	for _, sign := range []struct{ name, whose string }{
		{"overlay-images", "podman's"}, {"vfs-images", "podman's"}, {"btrfs-images", "podman's"}, {"zfs-images", "podman's"},
		{"image/overlay2", "docker's"}, {"io.containerd.content.v1.content", "containerd's"},
	} {
		if _, err := os.Stat(filepath.Join(root, sign.name)); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("use image store %s: %w: it is %s", root, ErrForeign, sign.whose)
		}
	}
	return fmt.Errorf("use image store %s: %w", root, ErrForeign)
}
