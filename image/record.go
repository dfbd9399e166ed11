package image

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hull/oci"
	"hull/state"
)

// recordVersion is the layout of a record; a newer one is not read.
const recordVersion = 1

// A record is what stands in ROOT/images/records/HEX.
type record struct {
	Version   int           `json:"version"`
	ID        oci.Digest    `json:"id"`
	Manifests []manifestRef `json:"manifests"` // the one stored last is the last
	Layers    []layerRef    `json:"layers"`
	Config    oci.Image     `json:"config"`
	Stored    time.Time     `json:"stored"`
	List      *List         `json:"list,omitempty"` // of a list, which has nothing else

	readOnly string // the root of the other store that it is in
}

// A manifestRef is one way in which the image came: other manifests may
// compress the same layers otherwise.
type manifestRef struct {
	Digest oci.Digest       `json:"digest"`
	Index  oci.Digest       `json:"index,omitempty"`
	Layers []oci.Descriptor `json:"layers"`
}

type layerRef struct {
	Diff oci.Digest `json:"diff"`
	Size int64      `json:"size"`
}

// blobs calls f with the digest of each blob that the record refers to.
func (r *record) blobs(f func(oci.Digest)) {
	if r.List != nil {
		for _, e := range r.List.Entries {
			f(e.Descriptor.Digest)
			for _, d := range e.Blobs {
				f(d)
			}
		}
		return
	}
	f(r.ID)
	for _, m := range r.Manifests {
		f(m.Digest)
		if m.Index != "" {
			f(m.Index)
		}
		for _, l := range m.Layers {
			f(l.Digest)
		}
	}
}

// chains calls f with each layer's chain ID, the lowest first.
func (r *record) chains(f func(oci.Digest)) {
	var chain oci.Digest
	for _, l := range r.Layers {
		chain = nextChain(chain, l.Diff)
		f(chain)
	}
}

// nextChain is the chain ID of the layer diff upon parent.
func nextChain(parent, diff oci.Digest) oci.Digest {
	if parent == "" {
		return diff
	}
	return oci.ChainID([]oci.Digest{parent, diff})
}

// image is the record as others see it.
func (r *record) image(names []oci.Reference) Image {
	if r.List != nil {
		return r.listImage(names)
	}
	img := Image{ID: r.ID, Config: r.Config, Stored: r.Stored, Names: names, ReadOnly: r.readOnly != ""}
	if r.Config.Created != nil {
		img.Created = *r.Config.Created
	}
	m := r.Manifests[len(r.Manifests)-1]
	img.Manifest, img.Index = m.Digest, m.Index
	var chain oci.Digest
	for i, l := range r.Layers {
		chain = nextChain(chain, l.Diff)
		img.Layers = append(img.Layers, Layer{Blob: m.Layers[i], Diff: l.Diff, Chain: chain, Size: l.Size})
		img.Size += l.Size
	}
	for _, m := range slices.Backward(r.Manifests) {
		for _, d := range []oci.Digest{m.Digest, m.Index} {
			if d != "" && !slices.Contains(img.digests, d) {
				img.digests = append(img.digests, d)
			}
		}
	}
	img.Digests = repoDigests(names, img.digests)
	return img
}

// repoDigests is each repository with each digest, sorted.
func repoDigests(names []oci.Reference, digests []oci.Digest) []oci.Reference {
	var refs []oci.Reference
	for _, n := range names {
		for _, d := range digests {
			ref := oci.Reference{Domain: n.Domain, Path: n.Path, Digest: d}
			if !slices.Contains(refs, ref) {
				refs = append(refs, ref)
			}
		}
	}
	slices.SortFunc(refs, compareRefs)
	return refs
}

func compareRefs(a, b oci.Reference) int { return cmp.Compare(a.String(), b.String()) }

// Paths. Every path of the store that this package names is made here.

func (s *Store) recordsDir() string { return filepath.Join(s.dir, "records") }
func (s *Store) namesDir() string   { return filepath.Join(s.dir, "names") }
func (s *Store) lockPath(kind, name string) string {
	return filepath.Join(s.dir, "locks", kind+"-"+name)
}

// recordName is the file name of an ID: its hex, whose length tells the
// algorithm.
func recordName(id oci.Digest) string { return id.Hex() }

// readRecord returns the record of an ID; ErrNotFound when there is none.
func (s *Store) readRecord(id oci.Digest) (*record, error) {
	data, err := state.ReadFile(filepath.Join(s.recordsDir(), recordName(id)))
	if errors.Is(err, state.ErrNotExist) {
		return s.readOther(id)
	}
	if err != nil {
		return nil, fmt.Errorf("read image record: %w", err)
	}
	return decodeRecord(id, data)
}

// decodeRecord decodes a record and checks what the rest relies on.
func decodeRecord(id oci.Digest, data []byte) (*record, error) {
	r := new(record)
	bad := func(why string) (*record, error) {
		return nil, fmt.Errorf("read record of image %s: %s: %w", id.Hex(), why, ErrDamaged)
	}
	if err := state.Unmarshal(data, r); err != nil {
		return bad(err.Error())
	}
	if r.Version != recordVersion {
		return bad(fmt.Sprintf("version %d is not known", r.Version))
	}
	if r.ID != id || (len(r.Manifests) == 0) != (r.List != nil) {
		return bad("it is not what its name says")
	}
	if r.List != nil {
		if err := r.List.check(); err != nil {
			return bad(err.Error())
		}
	}
	for _, l := range r.Layers {
		if err := l.Diff.Validate(); err != nil {
			return bad(err.Error())
		}
	}
	for _, m := range r.Manifests {
		if len(m.Layers) != len(r.Layers) || m.Digest.Validate() != nil || m.Index != "" && m.Index.Validate() != nil {
			return bad("a manifest in it is not whole")
		}
		for _, l := range m.Layers {
			if err := l.Validate(); err != nil {
				return bad(err.Error())
			}
		}
	}
	return r, nil
}

// ids lists the IDs of all records.
func (s *Store) ids() ([]oci.Digest, error) {
	ids, err := idsIn(s.recordsDir())
	if err != nil {
		return nil, err
	}
	for _, root := range s.Also {
		more, err := idsIn(otherRecords(root))
		if err != nil {
			return nil, err
		}
		for _, id := range more {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

func idsIn(dir string) ([]oci.Digest, error) {
	entries, err := state.ReadDir(dir)
	if err != nil && !errors.Is(err, state.ErrNotExist) {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var ids []oci.Digest
	for _, e := range entries {
		alg := "sha256:"
		if len(e.Name()) > 64 {
			alg = "sha512:"
		}
		if id := oci.Digest(alg + e.Name()); id.Validate() == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// records reads all records. Those that vanish meanwhile are passed over;
// those that cannot be read are in the error, beside the others.
func (s *Store) records() ([]*record, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var all []*record
	var bad []error
	for _, id := range ids {
		r, err := s.readRecord(id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			bad = append(bad, err)
			continue
		}
		all = append(all, r)
	}
	return all, errors.Join(bad...)
}

// writeRecord puts a record on the disk.
func (s *Store) writeRecord(r *record) error {
	data, err := state.Marshal(r)
	if err != nil {
		return fmt.Errorf("write record of image %s: %w", r.ID, err)
	}
	return s.write(s.recordsDir(), recordName(r.ID), data)
}

// write is state.WriteFile in a directory that is made when it is not there.
func (s *Store) write(dir, name string, data []byte) error {
	err := state.WriteFile(dir, name, data, 0o600, true)
	if errors.Is(err, state.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make image store: %w", err)
		}
		if err := state.SyncDir(s.dir); err != nil {
			return err
		}
		err = state.WriteFile(dir, name, data, 0o600, true)
	}
	return err
}

// A nameRecord is what stands in ROOT/images/names.
type nameRecord struct {
	Name string     `json:"name"`
	ID   oci.Digest `json:"id"`
}

// nameFile is the file name of an image's name: readable, since "+" stands for
// "/" and occurs in no name; a hash when it would be too long for a file.
func nameFile(ref oci.Reference) string {
	s := strings.ReplaceAll(ref.String(), "/", "+")
	if len(s) > 200 {
		return "+" + oci.FromBytes([]byte(s)).Hex()
	}
	return s
}

// readName returns the ID that a name leads to, "" when there is no such name.
func (s *Store) readName(ref oci.Reference) (oci.Digest, error) {
	id, err := s.readOwnName(ref)
	for _, root := range s.Also {
		if id != "" || err != nil {
			break
		}
		id, _, err = readNameFile(otherNames(root), nameFile(ref))
		if errors.Is(err, state.ErrNotExist) {
			id, err = "", nil
		}
	}
	return id, err
}

// readOwnName is readName without the other stores.
func (s *Store) readOwnName(ref oci.Reference) (oci.Digest, error) {
	id, _, err := readNameFile(s.namesDir(), nameFile(ref))
	if errors.Is(err, state.ErrNotExist) {
		return "", nil
	}
	return id, err
}

func readNameFile(dir, file string) (oci.Digest, oci.Reference, error) {
	data, err := state.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return "", oci.Reference{}, err
	}
	var n nameRecord
	err = state.Unmarshal(data, &n)
	if err == nil {
		err = n.ID.Validate()
	}
	var ref oci.Reference
	if err == nil {
		ref, err = oci.ParseReference(n.Name)
	}
	if err != nil {
		return "", ref, fmt.Errorf("read image name %s: %w", file, err)
	}
	return n.ID, ref, nil
}

// names returns all names by the ID they lead to, sorted.
func (s *Store) names() (map[oci.Digest][]oci.Reference, error) {
	all := map[oci.Digest][]oci.Reference{}
	seen := map[string]bool{}
	dirs := []string{s.namesDir()}
	for _, root := range s.Also {
		dirs = append(dirs, otherNames(root))
	}
	var bad []error
	for _, dir := range dirs {
		entries, err := state.ReadDir(dir)
		if err != nil && !errors.Is(err, state.ErrNotExist) {
			return nil, fmt.Errorf("list image names: %w", err)
		}
		for _, e := range entries {
			if seen[e.Name()] {
				continue
			}
			id, ref, err := readNameFile(dir, e.Name())
			if errors.Is(err, state.ErrNotExist) {
				continue
			}
			if err != nil {
				bad = append(bad, err)
				continue
			}
			seen[e.Name()] = true
			all[id] = append(all[id], ref)
		}
	}
	for _, refs := range all {
		slices.SortFunc(refs, compareRefs)
	}
	return all, errors.Join(bad...)
}

// namesOf returns the names of one image. It looks at all of them: a name
// knows its image, not the other way round, so that moving one is one rename.
func (s *Store) namesOf(id oci.Digest) ([]oci.Reference, error) {
	all, err := s.names()
	return all[id], err
}

func nameJSON(n oci.Reference, id oci.Digest) []byte {
	data, err := state.Marshal(nameRecord{n.String(), id})
	if err != nil {
		panic("bug: encode image name: " + err.Error())
	}
	return data
}
