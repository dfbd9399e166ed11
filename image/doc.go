// Package image is the images of the store: which names lead to which
// manifest, and which blobs and layers belong to it.
//
// # The idea
//
// An image is a record that refers to content; the content is elsewhere and
// has an address. What stands on the disk:
//
//	ROOT/images/records/HEX   one image: its manifests, layers and config, by the ID
//	ROOT/images/names/NAME    one name, which reads as the ID it leads to
//	ROOT/images/artifacts/NAME one name of an artifact, with what it has
//	ROOT/images/locks/…       locks of records and names
//	ROOT/images/hold          locked by whoever uses content that no record names yet
//	ROOT/images/garbage       there when content may be left over
//	ROOT/sha256/HEX           manifests, configs and layers, as they came (package blob)
//	ROOT/snapshots            the layers unpacked (package snapshot)
//
// A layer's blob stays compressed as it was pulled, so that a push sends the
// same bytes under the same digest.
//
//	pull, load, import ─► Assembly ─► blobs ─┐
//	                         │               ├─► sync ─► record ─► names
//	                         └─► snapshots ──┘
//
// # Order
//
// A record is published when its blobs and layers are on the disk, and a name
// when its record is. A kill in between leaves content without a record, or a
// record without a name: nothing that misleads, and prune takes it away.
//
// Readers take no locks: they see whole files, since each is replaced by
// rename. A writer of a record or a name holds its lock; who needs both takes
// the record's first.
//
// # Collecting
//
// Content in use is what some record refers to. While an image is put
// together no record does yet, so its maker has a Hold; content is only
// removed by one who knows that nobody has any. Who cannot know, because a
// pull is under way, leaves the garbage to the pull's end.
package image
