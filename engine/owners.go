package engine

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hull/layer"
	"hull/oci"
)

// overflowID is who owns what an id map does not have, as the kernel shows it.
const overflowID = 65534

// Owners translate the ids of a container with maps of its own: inside it
// root is 0, on the disk and to the engine it is another id.
type owners struct{ uids, gids []oci.LinuxIDMapping }

func (r *record) owners() owners { return owners{r.UIDMap, r.GIDMap} }

// none says that ids are the same inside.
func (o owners) none() bool { return len(o.uids) == 0 && len(o.gids) == 0 }

// outside is the id on the disk; 0 for one that the container does not have,
// which it sees as nobody's.
func outside(m []oci.LinuxIDMapping, id int) int {
	for _, r := range m {
		if id >= int(r.ContainerID) && id-int(r.ContainerID) < int(r.Size) {
			return int(r.HostID) + id - int(r.ContainerID)
		}
	}
	return 0
}

// inside is the opposite of outside.
func inside(m []oci.LinuxIDMapping, id int) int {
	for _, r := range m {
		if id >= int(r.HostID) && id-int(r.HostID) < int(r.Size) {
			return int(r.ContainerID) + id - int(r.HostID)
		}
	}
	return overflowID
}

// toDisk changes an archive's entry from the container's ids to those outside.
func (o owners) toDisk(h *tar.Header) {
	o.change(h, outside)
	if v, ok := h.PAXRecords[xattrCapability]; ok {
		h.PAXRecords[xattrCapability] = rootedCapability(v, uint32(outside(o.uids, 0)))
	}
}

// toLayer is the opposite: in an image ids are the container's.
func (o owners) toLayer(h *tar.Header) {
	o.change(h, inside)
	if v, ok := h.PAXRecords[xattrCapability]; ok {
		h.PAXRecords[xattrCapability] = plainCapability(v)
	}
}

func (o owners) change(h *tar.Header, by func([]oci.LinuxIDMapping, int) int) {
	h.Uid, h.Gid, h.Uname, h.Gname = by(o.uids, h.Uid), by(o.gids, h.Gid), "", ""
	for _, key := range []string{"SCHILY.xattr.system.posix_acl_access", "SCHILY.xattr.system.posix_acl_default"} {
		if acl, ok := h.PAXRecords[key]; ok {
			h.PAXRecords[key] = o.changeACL(acl, by)
		}
	}
}

// changeACL changes the users and groups in an access control list: a version
// of 4 bytes, then tag, permissions (2 bytes each) and id (4) of each entry.
func (o owners) changeACL(acl string, by func([]oci.LinuxIDMapping, int) int) string {
	const tagUser, tagGroup = 2, 8
	b := []byte(acl)
	for i := 4; i+8 <= len(b); i += 8 {
		id := int(binary.LittleEndian.Uint32(b[i+4:]))
		switch binary.LittleEndian.Uint16(b[i:]) {
		case tagUser:
			binary.LittleEndian.PutUint32(b[i+4:], uint32(by(o.uids, id)))
		case tagGroup:
			binary.LittleEndian.PutUint32(b[i+4:], uint32(by(o.gids, id)))
		}
	}
	return string(b)
}

// File capabilities count in the user namespace whose root the attribute
// names (version 3), or without one (2) in the one of the file system.
const (
	xattrCapability = "SCHILY.xattr.security.capability"
	capVersion2     = 0x02000000
	capVersion3     = 0x03000000
	capVersionMask  = 0xff000000
	capSize2        = 20
	capSize3        = 24
)

func rootedCapability(v string, root uint32) string {
	b := []byte(v)
	if len(b) < capSize2 {
		return v
	}
	magic := binary.LittleEndian.Uint32(b)
	out := binary.LittleEndian.AppendUint32(nil, magic&^capVersionMask|capVersion3)
	return string(binary.LittleEndian.AppendUint32(append(out, b[4:capSize2]...), root))
}

func plainCapability(v string) string {
	b := []byte(v)
	if len(b) != capSize3 {
		return v
	}
	magic := binary.LittleEndian.Uint32(b)
	out := binary.LittleEndian.AppendUint32(nil, magic&^capVersionMask|capVersion2)
	return string(append(out, b[4:capSize2]...))
}

// mapTar copies an archive with each entry changed.
func mapTar(w io.Writer, r io.Reader, change func(h *tar.Header)) error {
	in, out := tar.NewReader(r), tar.NewWriter(w)
	for {
		h, err := in.Next()
		if err == io.EOF {
			return out.Close()
		}
		if err != nil {
			return err
		}
		change(h)
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}

// mapped calls write with a writer whose archive arrives at w changed.
func mapped(w io.Writer, change func(h *tar.Header), write func(w io.Writer) error) error {
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(write(pw)) }()
	err := mapTar(w, pr, change)
	pr.CloseWithError(errors.New("the archive is not wanted any more"))
	return err
}

// copiesIDs says that the container's files have the ids that its own have
// outside, and no mount translates them: a user cannot have such mounts, and
// where a snapshot holds everything, there is nothing below to translate.
func (e *Engine) copiesIDs(r *record) bool {
	if e.o.Rootless || r.Options.Rootfs != "" {
		return e.o.Rootless
	}
	snaps, err := e.Snapshots()
	return err == nil && !snaps.Layered()
}

// baseLayer is the layer that the container's own stands on: the image's, or a
// copy of it with the ids that the container's have outside.
func (e *Engine) baseLayer(ctx context.Context, r *record) (oci.Digest, error) {
	own := r.owners()
	if r.Chain == "" || own.none() || !e.copiesIDs(r) {
		return r.Chain, nil
	}
	snaps, err := e.Snapshots()
	if err != nil {
		return "", err
	}
	return snaps.Derive(ctx, r.Chain, fmt.Sprint(own.uids, own.gids), func(w io.Writer, tree *os.File) error {
		return mapped(w, own.toDisk, func(w io.Writer) error {
			if err := writeRoot(w, tree); err != nil {
				return err
			}
			return layer.WriteTree(ctx, w, tree)
		})
	})
}

// writeRoot begins an archive with the tree's own directory, which has an owner too.
func writeRoot(w io.Writer, tree *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(tree.Fd()), &st); err != nil {
		return err
	}
	t := tar.NewWriter(w)
	err := t.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), PAXRecords: layer.Xattrs(tree), Format: tar.FormatPAX})
	if err != nil {
		return err
	}
	return t.Flush()
}

// ownedTree is the container's file system without its mounts, every owner as
// it is outside.
func (e *Engine) ownedTree(r *record) (*os.File, error) {
	plain := r.owners().none() || e.copiesIDs(r)
	if plain && (r.Options.Rootfs == "" || !r.Options.RootfsOverlay) {
		return e.openTree(r)
	}
	var user *os.File
	if !plain {
		var net *os.File
		var err error
		if user, net, err = e.userNamespace(r, nil); err != nil {
			return nil, err
		}
		defer user.Close()
		net.Close()
	}
	r.made = nil
	mounts, err := e.rootMounts(r)
	if err != nil {
		return nil, err
	}
	mount, err := e.idmappedRoot(r, mounts, user)
	if err != nil {
		return nil, err
	}
	defer mount.Close()
	fd, err := unix.Openat(int(mount.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the root of %s: %w", r.Name, err)
	}
	return os.NewFile(uintptr(fd), "tree"), nil
}

// writeLayer writes what write writes of the container's files, with the ids
// that they have inside.
func (r *record) writeLayer(w io.Writer, write func(w io.Writer) error) error {
	if own := r.owners(); !own.none() {
		return mapped(w, own.toLayer, write)
	}
	return write(w)
}
