// Package transfer moves images between registries, archives and the store.
//
// # The idea
//
// A pull is: what does the name mean, where is it, which manifest, then its
// layers at once. Each layer goes to the blob store and is unpacked at the same
// time (image.Assembly); the record is published when all is on the disk. A
// killed pull leaves whole blobs, and partials that the next one resumes.
//
//	name ─► candidates ─► sources ─► index ─► manifest, config ─► layers ─► record
//	        registries.conf  mirrors   platform      policy         blob+unpack
//
// A push sends the stored bytes, so the digest is the one that was pulled; only
// when another format or compression is wanted, or a layer is stored
// uncompressed, a new manifest is made.
//
// Names may begin with a transport: docker:// (also without it), dir:, oci:,
// oci-archive:, docker-archive: and docker-daemon:.
//
// What happens is told to Transfer.Notify; nothing is printed here.
package transfer

import (
	"hull/image"
	"hull/oci"
	"hull/registry"
	"hull/trust"
)

// A Transfer moves images in and out of one store.
type Transfer struct {
	Images   *image.Store
	Registry *registry.Client
	// Notify is told what happens, from many goroutines; nil is nobody.
	Notify func(Event)
	// Jobs is how many layers are moved at once; 0 is 4.
	Jobs int
	// Policy decides which images may come in; nil is the user's policy.json.
	Policy *trust.Policy
	// Lookaside knows where signatures are; nil is what registries.d says.
	Lookaside *trust.Lookaside
}

// A Kind of Event.
type Kind uint8

// The kinds of events.
const (
	Trying     Kind = iota // a pull of Ref begins; Text says why it is that name
	Signatures             // the source has answered
	Blob                   // a blob begins to be moved; Size may be known
	Exists                 // a blob is there already
	Progress               // Current bytes of a blob are here
	Done                   // a blob is here
	Config                 // the config is moved
	Manifest               // the manifest is written
	Warning                // Text
	Storing                // the image is made known
	Instance               // an image of a list is next: Blob is its manifest, Text which of how many
)

// An Event is one thing that happened.
type Event struct {
	Kind          Kind
	Ref           string
	Text          string
	Blob          oci.Digest
	Size, Current int64
}

func (t *Transfer) notify(e Event) {
	if t.Notify != nil {
		t.Notify(e)
	}
}

func (t *Transfer) jobs() int {
	if t.Jobs > 0 {
		return t.Jobs
	}
	return 4
}
