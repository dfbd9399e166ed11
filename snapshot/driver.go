package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hull/layer"
	"hull/oci"
	"hull/state"
)

// A driver says what the directory of a layer or of an active snapshot holds,
// and how it becomes a root file system. All else (names, locks, marks, lists)
// is the Store's. TestDrivers is the contract.
//
// There are two kinds. With a layered driver a directory holds what was changed
// above the layers below, and mounting lays them over each other. With the
// others it holds everything: it begins as a copy of the one below, which those
// drivers make by different means.
type driver interface {
	layered() bool
	// whiteouts is how layer.Apply keeps deletions.
	whiteouts() layer.Whiteouts
	// usable is an error where the file system of dir cannot keep such directories.
	usable(dir string) error
	// create makes the directory path. below is the one that it stands on, ""
	// for none; the new one then has the mode untouched.
	create(path, below string) error
	// active is the mount of the snapshot in dir above the layers lower: names
	// below l, the top first, with colons between.
	active(dir, lower, options string) oci.Mount
	// view is the read-only mount of the layers lower.
	view(lower string) oci.Mount
	// destroy removes path, which create made, or as much of it as goes at
	// once; the rest is removed file by file.
	destroy(path string)
}

// drivers are the names that a store can be opened with.
var drivers = []struct {
	name string
	open func(s *Store) driver
}{
	{"overlay", func(s *Store) driver { return &overlay{s} }},
	{"btrfs", func(s *Store) driver {
		return &copies{s: s, make: btrfsCreate, clone: btrfsClone, end: btrfsDestroy, where: btrfsUsable}
	}},
	{"vfs", func(s *Store) driver { return &copies{s: s, make: vfsCreate, clone: copyTree, bytes: true} }},
}

// Drivers lists the names of the drivers.
func Drivers() []string {
	var names []string
	for _, d := range drivers {
		names = append(names, d.name)
	}
	return names
}

func (s *Store) setDriver(name string) error {
	for _, d := range drivers {
		if d.name == name {
			s.name, s.d = name, d.open(s)
			return nil
		}
	}
	return &hintError{fmt.Errorf("driver %q is not known", name), "there are " + strings.Join(Drivers(), ", ")}
}

// driverFile holds the name of the driver that the store was made with.
const driverFile = "driver"

// recorded is the driver of the store in dir, "" of one that is still to be made.
func recorded(dir string) (string, error) {
	text, err := state.ReadFile(filepath.Join(dir, driverFile))
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	// Before there were others, overlay was not written down.
	if _, err := os.Stat(filepath.Join(dir, "l")); err == nil {
		return "overlay", nil
	}
	return "", nil
}

// chooseDriver takes the driver of an existing store, and for a new one what
// the caller says.
func (s *Store) chooseDriver() error {
	asked := s.o.Driver
	if asked == "overlay2" { // docker's name for it
		asked = "overlay"
	}
	have, err := recorded(s.dir)
	if err != nil {
		return err
	}
	switch {
	case have != "" && asked != "" && have != asked:
		return &hintError{fmt.Errorf("the store %s was made with driver %q, not %q", s.dir, have, asked),
			"leave --storage-driver out, or take another store by --root"}
	case have != "":
		return s.setDriver(have)
	case asked == "" && s.o.DefaultDriver != nil:
		if asked, err = s.o.DefaultDriver(); err != nil {
			return err
		}
	}
	if asked == "" || asked == "overlay2" {
		asked = "overlay"
	}
	return s.setDriver(asked)
}

// checkAlso makes sure that the layers of further stores are of the same kind.
func (s *Store) checkAlso() error {
	for _, dir := range s.o.Also {
		have, err := recorded(dir)
		if err != nil {
			return err
		}
		if have != "" && have != s.name {
			return &hintError{fmt.Errorf("the image store %s was made with driver %q, this one has %q", dir, have, s.name),
				"leave it out, or take a store of its driver by --root"}
		}
	}
	return nil
}

// ensure makes the store's directories, after it has noted the driver: what has
// one of them has that too.
func (s *Store) ensure() error {
	if _, err := os.Stat(filepath.Join(s.dir, "l")); err != nil {
		if err := s.noteDriver(); err != nil {
			return err
		}
	}
	for _, d := range []string{"l", "a", "t"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o700); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) noteDriver() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := s.d.usable(s.dir); err != nil {
		return err
	}
	err := state.Claim(filepath.Join(s.dir, driverFile), []byte(s.name+"\n"), true)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	have, err := recorded(s.dir)
	if err == nil && have != s.name {
		err = fmt.Errorf("the store %s is being made with driver %q, not %q", s.dir, have, s.name)
	}
	return err
}

// stack are the layers that a tree is looked for in, the top first.
func (s *Store) stack(lower string) []string {
	names := strings.Split(lower, ":")
	if !s.d.layered() {
		return names[:1]
	}
	return names
}

// File systems by their magic number (statfs(2)).
const (
	magicNFS     = 0x6969
	magicBtrfs   = 0x9123683e
	magicOverlay = 0x794c7630
)

func fileSystemOf(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	return int64(st.Type), nil
}
