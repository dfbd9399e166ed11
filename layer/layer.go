// Package layer turns archives into directories and back: it unpacks the tar of
// an image layer, lists what differs between two trees, and writes that as a
// layer again.
//
// A layer comes from outside. Every name in it is resolved below the open root
// directory, where links lead nowhere else, and no name is resolved twice.
package layer

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

// ApplyOptions say how Apply unpacks.
type ApplyOptions struct {
	Whiteouts Whiteouts
	// MaxSize and MaxFiles bound what one layer may unpack to; 0 is no bound (a tar bomb, see STO-05).
	MaxSize, MaxFiles int64
	// IgnoreChown keeps the caller's owner for everything (a store without subordinate ids).
	IgnoreChown bool
}
