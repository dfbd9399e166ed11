package engine

import (
	"archive/tar"
	"reflect"
	"testing"

	"hull/oci"
)

func TestOwners(t *testing.T) {
	own := owners{
		uids: []oci.LinuxIDMapping{{ContainerID: 0, HostID: 1, Size: 1000}, {ContainerID: 1000, HostID: 0, Size: 1}},
		gids: []oci.LinuxIDMapping{{ContainerID: 0, HostID: 5000, Size: 10}},
	}
	for _, c := range []struct{ uid, gid, diskUID, diskGID int }{
		{0, 0, 1, 5000}, {999, 9, 1000, 5009}, {1000, 0, 0, 5000},
	} {
		h := &tar.Header{Uid: c.uid, Gid: c.gid, Uname: "root"}
		own.toDisk(h)
		if h.Uid != c.diskUID || h.Gid != c.diskGID || h.Uname != "" {
			t.Errorf("%d:%d is on the disk %d:%d %q, want %d:%d", c.uid, c.gid, h.Uid, h.Gid, h.Uname, c.diskUID, c.diskGID)
		}
		own.toLayer(h)
		if h.Uid != c.uid || h.Gid != c.gid {
			t.Errorf("%d:%d is back in a layer %d:%d", c.uid, c.gid, h.Uid, h.Gid)
		}
	}
	h := &tar.Header{Uid: 70000, Gid: 10}
	own.toDisk(h)
	if h.Uid != 0 || h.Gid != 0 {
		t.Errorf("ids that there are not = %d:%d, want 0:0, which is nobody inside", h.Uid, h.Gid)
	}
	h = &tar.Header{Uid: 70000, Gid: 10}
	own.toLayer(h)
	if h.Uid != overflowID || h.Gid != overflowID {
		t.Errorf("foreign ids = %d:%d, want %d", h.Uid, h.Gid, overflowID)
	}
}

func TestOwnersOfAttributes(t *testing.T) {
	own := owners{uids: []oci.LinuxIDMapping{{HostID: 0x01020304, Size: 100}}, gids: []oci.LinuxIDMapping{{HostID: 300, Size: 100}}}
	const acl = "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x06\x00\x05\x00\x00\x00" + "\x08\x00\x06\x00\x05\x00\x00\x00"
	const onDisk = "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x06\x00\x09\x03\x02\x01" + "\x08\x00\x06\x00\x31\x01\x00\x00"
	const capability = "\x01\x00\x00\x02" + "\x00\x04\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	const rooted = "\x01\x00\x00\x03" + "\x00\x04\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x04\x03\x02\x01"
	h := &tar.Header{PAXRecords: map[string]string{xattrCapability: capability, "SCHILY.xattr.system.posix_acl_access": acl, "SCHILY.xattr.user.x": "y"}}
	own.toDisk(h)
	want := map[string]string{xattrCapability: rooted, "SCHILY.xattr.system.posix_acl_access": onDisk, "SCHILY.xattr.user.x": "y"}
	if !reflect.DeepEqual(h.PAXRecords, want) {
		t.Errorf("on the disk = %q\nwant %q", h.PAXRecords, want)
	}
	own.toLayer(h)
	want[xattrCapability], want["SCHILY.xattr.system.posix_acl_access"] = capability, acl
	if !reflect.DeepEqual(h.PAXRecords, want) {
		t.Errorf("in a layer = %q\nwant %q", h.PAXRecords, want)
	}
	// What is cut off is left alone.
	h = &tar.Header{PAXRecords: map[string]string{xattrCapability: "\x01", "SCHILY.xattr.system.posix_acl_access": "\x02\x00"}}
	own.toDisk(h)
	own.toLayer(h)
}
