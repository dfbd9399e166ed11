// Package depot is a registry of one's own: the distribution API over a
// directory, for a laptop, a test or a network that leads nowhere.
//
//	ROOT/sha256 …                   content, as package blob keeps it
//	ROOT/uploads/ID                 an upload that is under way
//	ROOT/repos/NAME/blobs/HEX       the repository has this blob
//	ROOT/repos/NAME/manifests/HEX   the media type of a manifest that it has
//	ROOT/repos/NAME/tags/TAG        the digest that a tag leads to
//	ROOT/repos/NAME/subjects/HEX/HEX   the second manifest refers to the first
//
// In NAME "+" stands for "/". A repository shows only what was pushed to it or
// mounted into it from another that has it: to know a digest is not enough.
//
// A manifest is taken when all that it refers to is there, so what can be asked
// for by a tag can be pulled. A blob that no repository has goes with its last
// link; what was pushed for a manifest that never came goes when a server
// starts, a day later.
package depot
