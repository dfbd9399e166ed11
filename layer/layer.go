// Package layer turns the tar of an image's layer into a directory and back.
//
// A layer says what changes above the layers below it: files, directories and
// links that are there now, and marks for what is not there any more (image-spec
// layer.md). Apply unpacks one, Pack and WriteChanges make one, Compare finds out
// what belongs into it; Decompress and Compress are for the form it travels in.
//
// # What Apply trusts
//
// Nothing. A layer is bytes from somebody else, unpacked as root. Every name is
// looked up once, by openat with O_NOFOLLOW in the directory above it, which is
// held open; a link that a directory of the layer leads through is resolved by
// the kernel inside the root (openat2 with RESOLVE_IN_ROOT). Files are made with
// O_EXCL: what is in the way is removed first, never written to or through. A
// name with ".." and a root that is no directory are refused.
//
// # Terms
//
//	whiteout  the file ".wh.NAME": NAME of the layers below is gone
//	opaque    the file ".wh..wh..opq" in a directory: all that the layers below
//	          have in it is gone
//	implicit  a directory that the layer has something in but does not list
package layer

// The marks of image-spec layer.md#whiteouts. Other names that begin with
// metaPrefix are aufs's own and mean nothing to anybody else.
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
)

// Whiteouts says how a deletion is kept in a directory.
type Whiteouts uint8

const (
	// Delete removes what the layer deletes: the directory holds the layers below too.
	Delete Whiteouts = iota
	// Overlay makes overlay's own marks: a character device 0:0 for a deleted
	// name and the xattr trusted.overlay.opaque on an opaque directory.
	Overlay
	// OverlayUser is Overlay with user.overlay.opaque, as a mount with userxattr reads it.
	OverlayUser
)

// OpaqueXattr is the xattr that marks an opaque directory.
func (w Whiteouts) OpaqueXattr() string { return w.opaqueXattr() }

// opaqueXattr is OpaqueXattr.
func (w Whiteouts) opaqueXattr() string {
	if w == OverlayUser {
		return "user.overlay.opaque"
	}
	return "trusted.overlay.opaque"
}

// A Kind of change between two trees.
type Kind uint8

const (
	Added Kind = iota
	Modified
	Deleted
)

// String returns A, C or D, as `diff` prints it.
func (k Kind) String() string {
	if int(k) < 3 {
		return "ACD"[k : k+1]
	}
	return "?"
}

// A Change is one path, absolute within the tree, that differs.
type Change struct {
	Kind Kind
	Path string
}
