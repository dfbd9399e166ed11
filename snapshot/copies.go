package snapshot

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hull/layer"
	"hull/oci"
)

// copies is the driver whose every directory holds the whole tree.
type copies struct {
	s     *Store
	make  func(path string) error        // an empty directory
	clone func(path, below string) error // one that holds what below holds
	end   func(path string)              // may be nil
	where func(dir string) error         // may be nil: everywhere
	// bytes says that clone writes files, which a power cut may leave empty.
	bytes bool
}

func (c *copies) layered() bool              { return false }
func (c *copies) whiteouts() layer.Whiteouts { return layer.Delete }

func (c *copies) usable(dir string) error {
	if c.where == nil {
		return nil
	}
	return c.where(dir)
}

func (c *copies) create(path, below string) error {
	if below != "" {
		return c.clone(path, below)
	}
	if err := c.make(path); err != nil {
		return err
	}
	return unix.Chmod(path, untouched)
}

func (c *copies) active(dir, _, _ string) oci.Mount {
	return oci.Mount{Type: "bind", Source: filepath.Join(dir, "u"), Options: []string{"rbind"}}
}

func (c *copies) view(lower string) oci.Mount {
	top, _, _ := strings.Cut(lower, ":")
	return oci.Mount{Type: "bind", Source: filepath.Join(c.s.dir, "l", top, "d"), Options: []string{"rbind", "ro"}}
}

func (c *copies) destroy(path string) {
	if c.end != nil {
		c.end(path)
	}
}

func vfsCreate(path string) error { return unix.Mkdir(path, 0o700) }
