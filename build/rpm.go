package build

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
)

// rpmDatabases are where rpm keeps what is installed, since its version 4.16.
var rpmDatabases = []string{"/usr/lib/sysimage/rpm/rpmdb.sqlite", "/var/lib/rpm/rpmdb.sqlite"}

// rpm lists the packages of an rpm database.
func rpm(t *tree, distro, p string) ([]component, error) {
	f, err := t.open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	wal, err := t.open(p + "-wal")
	if err == nil {
		defer wal.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	} else {
		wal = nil
	}
	d, err := openDatabase(f, wal)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p, err)
	}
	var all []component
	err = d.table("Packages", func(columns []any) error {
		for _, c := range columns {
			if blob, ok := c.([]byte); ok {
				if x, ok := rpmPackage(blob, distro); ok {
					all = append(all, x)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p, err)
	}
	return all, nil
}

// Tags of rpm's headers (rpmtag.h), and the types of their values.
const (
	rpmName, rpmVersion, rpmRelease, rpmEpoch, rpmArch = 1000, 1001, 1002, 1003, 1022
	rpmInt32, rpmString                                = 4, 6
)

// rpmPackage reads a header: how many entries, how much data, the entries (tag,
// type, offset, count), the data. What is no package, as a key, is not one.
func rpmPackage(b []byte, distro string) (component, bool) {
	if len(b) < 8 {
		return component{}, false
	}
	entries, size := uint64(binary.BigEndian.Uint32(b)), uint64(binary.BigEndian.Uint32(b[4:]))
	if 8+16*entries+size > uint64(len(b)) {
		return component{}, false
	}
	data := b[8+16*entries:][:size]
	text := map[uint32]string{}
	for i := range entries {
		e := b[8+16*i:]
		tag, kind, at := binary.BigEndian.Uint32(e), binary.BigEndian.Uint32(e[4:]), uint64(binary.BigEndian.Uint32(e[8:]))
		switch {
		case at > size:
			return component{}, false
		case kind == rpmString:
			s, _, _ := bytes.Cut(data[at:], []byte{0})
			text[tag] = string(s)
		case kind == rpmInt32 && tag == rpmEpoch && at+4 <= size:
			text[tag] = strconv.Itoa(int(binary.BigEndian.Uint32(data[at:])))
		}
	}
	name, version := text[rpmName], text[rpmVersion]+"-"+text[rpmRelease]
	if name == "" || name == "gpg-pubkey" {
		return component{}, false
	}
	c := component{Name: name, Version: version, PURL: purl("rpm", distro, name, version, text[rpmArch])}
	if e := text[rpmEpoch]; e != "" && e != "0" {
		c.Version = e + ":" + version
		if text[rpmArch] == "" {
			c.PURL += "?epoch=" + e
		} else {
			c.PURL += "&epoch=" + e
		}
	}
	return c, true
}
