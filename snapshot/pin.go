package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"hull/oci"
)

// Pin keeps a committed layer from being removed, for one that is mounted as it
// is (ViewMounts, AttachView), until Remove of the name. A pin is an active
// snapshot without files: List has it, and removals meet it as any other. To
// make one anew moves it.
func (s *Store) Pin(ctx context.Context, name string, chain oci.Digest) error {
	fail := func(err error) error { return fmt.Errorf("pin layer %s: %w", chain, err) }
	if !validName(name) {
		return fail(fmt.Errorf("%q is not a name of a snapshot", name))
	}
	l, err := s.lock(ctx, false)
	if err != nil {
		return fail(err)
	}
	defer l.Release()
	lower, err := s.lower(chain)
	if err != nil {
		return fail(err)
	}
	dir := s.activeDir(name)
	err = os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if have, err := s.parentOf(dir); err == nil && have == chain {
			return nil
		}
		if err = os.Remove(filepath.Join(dir, "base")); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = os.Symlink(activeInfo{lower: lower}.text(), filepath.Join(dir, "base"))
	}
	if err != nil {
		return fail(err)
	}
	return nil
}
