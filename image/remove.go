package image

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"hull/oci"
	"hull/state"
)

// RemoveOptions for Remove and Prune.
type RemoveOptions struct {
	// Force removes an image by its ID although it has several names, and
	// with Evict one that containers use.
	Force bool
	// AllNames removes an image by its ID although it has several names.
	AllNames bool
	// NoPrune keeps nameless parents that nothing is built upon any more.
	NoPrune bool
	// Users lists the containers that use an image; nil: there are none.
	Users func(ctx context.Context, img Image) ([]string, error)
	// Evict removes containers, for Force.
	Evict func(ctx context.Context, containers []string) error
}

// Removed is what Remove did.
type Removed struct {
	Untagged []oci.Reference
	Deleted  []oci.Digest
	Freed    int64 // bytes of the images deleted, as their Size says
}

func (r *Removed) add(o Removed) {
	r.Untagged = append(r.Untagged, o.Untagged...)
	r.Deleted = append(r.Deleted, o.Deleted...)
	r.Freed += o.Freed
}

// An InUseError says which containers use an image.
type InUseError struct {
	ID         oci.Digest
	Containers []string
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("image used by %s: image is in use by a container: consider listing external containers and force-removing image", strings.Join(e.Containers, ", "))
}

func (e *InUseError) Unwrap() error { return ErrInUse }

// Remove takes a name away, and with the last one the image. By ID it is
// removed with its only name, or with all of them by Force.
func (s *Store) Remove(ctx context.Context, name string, o RemoveOptions) (Removed, error) {
	img, ref, err := s.lookup(ctx, name)
	if errors.Is(err, ErrDamaged) {
		return s.removeDamaged(ctx, name)
	}
	if err != nil {
		return Removed{}, err
	}
	if ref.Path != "" && slices.Contains(img.Names, ref) && len(img.Names) > 1 {
		gone, err := s.Untag(ctx, img.ID, ref)
		return Removed{Untagged: gone}, err
	}
	if ref.Path == "" && len(img.Names) > 1 && !o.Force && !o.AllNames {
		return Removed{}, fmt.Errorf("unable to delete image %q by ID with more than one tag (%v): please force removal", img.ID.Hex(), img.Names)
	}
	return s.RemoveImage(ctx, img, o)
}

// RemoveImage removes an image with all its names, and then its parents as
// far as nobody can want them.
func (s *Store) RemoveImage(ctx context.Context, img Image, o RemoveOptions) (Removed, error) {
	if err := s.evict(ctx, img, o); err != nil {
		return Removed{}, err
	}
	images, err := s.List(ctx)
	if err != nil && len(images) == 0 {
		return Removed{}, err
	}
	family := NewFamily(images)
	done, err := s.remove(ctx, img.ID)
	if err != nil {
		return done, err
	}
	if len(family.Children(img.ID)) > 0 {
		// Its layers are still there, as parts of the children: nothing that
		// a user would call deleted.
		done.Deleted, done.Freed = nil, 0
		return done, nil
	}
	if o.NoPrune {
		return done, nil
	}
	// Parents that only led to this image go too, unless a container uses them.
	for id := family.Parent(img.ID); id != ""; id = family.Parent(id) {
		parent := family.get(id)
		if parent == nil || len(parent.Names) > 0 || len(family.Children(id)) > 1 {
			break
		}
		if s.evict(ctx, *parent, RemoveOptions{Users: o.Users}) != nil {
			break
		}
		more, err := s.remove(ctx, id)
		done.add(more)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// evict makes sure that no container uses the image.
func (s *Store) evict(ctx context.Context, img Image, o RemoveOptions) error {
	if o.Users == nil {
		return nil
	}
	users, err := o.Users(ctx, img)
	if err != nil || len(users) == 0 {
		return err
	}
	if o.Force && o.Evict != nil {
		return o.Evict(ctx, users)
	}
	return &InUseError{img.ID, users}
}

// remove removes names, record and content, in this order: a kill in between
// leaves a nameless image, or garbage that is marked as such.
func (s *Store) remove(ctx context.Context, id oci.Digest) (Removed, error) {
	var done Removed
	l, err := s.lockRecord(ctx, id)
	if err != nil {
		return done, err
	}
	defer l.Release()
	r, err := s.readRecord(id)
	if err != nil {
		l.Remove()
		return done, err
	}
	if r.readOnly != "" {
		return done, fmt.Errorf("remove image %s: %w: %s", id.Hex(), ErrReadOnly, r.readOnly)
	}
	names, err := s.namesOf(id)
	if err != nil {
		return done, err
	}
	for _, n := range names {
		ok, err := s.dropName(ctx, n, id)
		if err != nil {
			return done, err
		}
		if ok {
			done.Untagged = append(done.Untagged, n)
		}
	}
	only := newContent()
	only.add(r)
	done.Deleted = append(done.Deleted, id)
	done.Freed = r.image(nil).Size
	return done, s.dropRecord(ctx, l, id, only)
}

// dropRecord removes a record and of its content what nobody else refers to.
func (s *Store) dropRecord(ctx context.Context, l *state.Lock, id oci.Digest, only *content) error {
	if err := s.MarkGarbage(); err != nil {
		return err
	}
	if err := state.Remove(filepath.Join(s.recordsDir(), recordName(id)), true); err != nil {
		return fmt.Errorf("remove image %s: %w", id.Hex(), err)
	}
	_ = l.Remove() // an empty file that stays is no harm
	// The image is gone, whether its content could be removed or not: what
	// cannot be now is marked, and the next collection takes it.
	_, err := s.collect(context.WithoutCancel(ctx), only)
	if errors.Is(err, ErrDamaged) {
		return nil
	}
	return err
}

// removeDamaged removes an image whose record cannot be read: by its name or
// its ID.
func (s *Store) removeDamaged(ctx context.Context, name string) (Removed, error) {
	var done Removed
	id := oci.Digest("")
	if ref, err := oci.ParseReference(name); err == nil {
		for _, full := range s.candidates(ref) {
			if id, _ = s.readName(full); id != "" {
				break
			}
		}
	}
	if id == "" {
		ids, err := s.ids()
		if err != nil {
			return done, err
		}
		for _, i := range ids {
			if strings.HasPrefix(i.Hex(), strings.TrimPrefix(name, "sha256:")) {
				id = i
			}
		}
	}
	if id == "" {
		return done, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	l, err := s.lockRecord(ctx, id)
	if err != nil {
		return done, err
	}
	defer l.Release()
	names, err := s.namesOf(id)
	if err != nil {
		return done, err
	}
	for _, n := range names {
		if _, err := s.dropName(ctx, n, id); err != nil {
			return done, err
		}
		done.Untagged = append(done.Untagged, n)
	}
	done.Deleted = []oci.Digest{id}
	return done, s.dropRecord(ctx, l, id, nil)
}

// PruneOptions for Prune.
type PruneOptions struct {
	RemoveOptions
	// All takes also named images that no container uses.
	All bool
	// Keep reports an image that the filters do not select; nil selects all.
	Keep func(img *Image) bool
}

// Prune removes nameless images that nothing is built upon, or with All all
// that no container uses, and content that belongs to no image.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (Removed, error) {
	var done Removed
	for {
		n, err := s.pruneOnce(ctx, o, &done)
		if err != nil {
			return done, err
		}
		if n == 0 {
			break // what became an orphan by a round went in the next
		}
	}
	_, err := s.Collect(ctx)
	return done, err
}

func (s *Store) pruneOnce(ctx context.Context, o PruneOptions, done *Removed) (int, error) {
	images, err := s.List(ctx)
	if err != nil && len(images) == 0 {
		return 0, err
	}
	family := NewFamily(images)
	n := 0
	for i := range images {
		img := &images[i]
		if img.ReadOnly || !o.All && !family.Dangling(img) || o.Keep != nil && o.Keep(img) {
			continue
		}
		if len(family.Children(img.ID)) > 0 {
			continue // after its children, if those go
		}
		err := s.evict(ctx, *img, RemoveOptions{Users: o.Users})
		if errors.Is(err, ErrInUse) {
			continue
		}
		if err != nil {
			return n, err
		}
		more, err := s.remove(ctx, img.ID)
		if errors.Is(err, ErrNotFound) {
			continue // somebody else was faster
		}
		done.add(more)
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
