package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hull/oci"
	"hull/state"
)

// Places are the repositories in which a blob was seen, so that a push to
// another repository of the same registry can have it taken from there. They
// are hints: a registry that has the blob no more says so.

// maxPlaces is how many repositories are remembered of a blob.
const maxPlaces = 5

func (s *Store) placesDir() string { return filepath.Join(s.dir, "places") }

// NotePlace remembers that a repository, a name without a tag, has a blob.
func (s *Store) NotePlace(d oci.Digest, repository string) error {
	have := s.Places(d)
	if len(have) > 0 && have[0] == repository {
		return nil
	}
	all := append([]string{repository}, slices.DeleteFunc(have, func(p string) bool { return p == repository })...)
	text := []byte(strings.Join(all[:min(len(all), maxPlaces)], "\n"))
	err := state.WriteFile(s.placesDir(), d.Hex(), text, 0o600, false)
	if errors.Is(err, state.ErrNotExist) {
		if err = os.MkdirAll(s.placesDir(), 0o700); err == nil {
			err = state.WriteFile(s.placesDir(), d.Hex(), text, 0o600, false)
		}
	}
	if err != nil {
		return fmt.Errorf("note where blob %s is: %w", d, err)
	}
	return nil
}

// Places lists the repositories that had a blob, the latest first.
func (s *Store) Places(d oci.Digest) []string {
	if d.Validate() != nil {
		return nil
	}
	data, err := state.ReadFile(filepath.Join(s.placesDir(), d.Hex()))
	if err != nil {
		return nil // a hint that cannot be read is none
	}
	return slices.DeleteFunc(strings.Split(string(data), "\n"), func(p string) bool {
		ref, err := oci.ParseReference(p)
		return err != nil || ref.IsShort()
	})
}

// forgetPlaces goes with the blob.
func (s *Store) forgetPlaces(d oci.Digest) { _ = os.Remove(filepath.Join(s.placesDir(), d.Hex())) }
