package transfer

import (
	"errors"
	"fmt"
	"io"

	"hull/blob"
	"hull/image"
	"hull/oci"
	"hull/registry"
)

// A hinted error has its cure.
type hinted struct {
	error
	hint string
}

func (h *hinted) Hint() string  { return h.hint }
func (h *hinted) Unwrap() error { return h.error }

// pullHint adds to the error of a pull what the user can do about it, where
// that is known and nobody has said it.
func pullHint(err error, ref oci.Reference) error {
	var said interface{ Hint() string }
	if err == nil || errors.As(err, &said) {
		return err
	}
	name := ref.Name()
	switch {
	case errors.Is(err, errNoImage):
		return &hinted{err, fmt.Sprintf("files that are no image: hull artifact pull %s", ref)}
	case errors.Is(err, registry.ErrUnauthorized):
		return &hinted{err, fmt.Sprintf("hull login %s; some registries answer so for a name that they do not have", ref.Normalized().Domain)}
	case errors.Is(err, registry.ErrNotFound):
		return &hinted{err, fmt.Sprintf("the tags that are there: hull search --list-tags %s", name)}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &hinted{err, "pull again: it goes on where it was cut"}
	case errors.Is(err, blob.ErrDigest), errors.Is(err, blob.ErrSize), errors.Is(err, registry.ErrDigest), errors.Is(err, image.ErrMismatch):
		return &hinted{err, "the registry, or something on the way, sent other content than the image says: nothing of it is kept"}
	}
	return err
}

// pushHint is pullHint for a push, where only the first can be cured.
func pushHint(err error, ref oci.Reference) error {
	if errors.Is(err, registry.ErrUnauthorized) {
		return pullHint(err, ref)
	}
	return err
}
