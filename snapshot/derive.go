package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"hull/oci"
	"hull/state"
)

// Derived is the name of what Derive makes of a layer under a key.
func Derived(chain oci.Digest, key string) oci.Digest {
	return oci.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("derived\x00"+string(chain)+"\x00"+key))))
}

// Derive returns a layer without a parent that holds all of chain, changed by
// change, which reads and writes an uncompressed tar: a copy for those who
// cannot mount the original as they need it. It is made once, and goes with
// the original, or at a prune.
func (s *Store) Derive(ctx context.Context, chain oci.Digest, key string, change func(w io.Writer, tree *os.File) error) (oci.Digest, error) {
	derived := Derived(chain, key)
	if s.Exists(derived) {
		return derived, nil
	}
	tree, err := s.ViewTree(chain)
	if err != nil {
		return "", err
	}
	defer tree.Close()
	d, err := s.NewDraft(ctx, "")
	if err != nil {
		return "", err
	}
	defer d.Abort()
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(change(pw, tree)) }()
	err = d.Unpack(ctx, pr)
	pr.CloseWithError(errors.New("the layer was not unpacked"))
	if err == nil {
		err = state.WriteFile(d.dir, "from", []byte(chain), 0o600, false)
	}
	if err == nil {
		err = s.Sync() // no record is written after this layer: its name says that it is whole
	}
	if err == nil {
		err = d.Commit(derived)
	}
	if err != nil {
		return "", fmt.Errorf("copy layer %s: %w", chain, err)
	}
	return derived, nil
}

// removeDerived removes what was derived of a layer, but what is in use.
func (s *Store) removeDerived(ctx context.Context, chain oci.Digest) error {
	dirs, err := filepath.Glob(filepath.Join(s.dir, "l", "*", "from"))
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range dirs {
		from, err := state.ReadFile(file)
		if err != nil || string(from) != string(chain) {
			continue
		}
		name, err := state.ReadFile(filepath.Join(filepath.Dir(file), "chain"))
		if err != nil {
			continue
		}
		if err := s.RemoveLayer(ctx, oci.Digest(name)); err != nil && !errors.Is(err, ErrInUse) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
