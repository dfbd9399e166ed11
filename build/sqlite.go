package build

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// errSQLite reports a file that is no database, or a broken one.
var errSQLite = errors.New("it is no whole SQLite database")

// A database is an SQLite file that is only read: one table at a time, from end
// to end (sqlite.org/fileformat2.html). A library for all of SQL would add a
// quarter to the program, for the list of an image's packages.
type database struct {
	f      io.ReaderAt
	wal    *os.File      // nil of none
	frames map[int]int64 // page → where the log has its newest form
	size   int           // of a page
	usable int           // of that, for content
	pages  int           // as the file has them
	seen   map[int]bool  // pages of the table: a page that leads to itself has no end
}

// openDatabase reads the beginning of a database, and its write-ahead log if
// there is one.
func openDatabase(f, wal *os.File) (*database, error) {
	var head [100]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || string(head[:16]) != "SQLite format 3\x00" {
		return nil, errSQLite
	}
	d := &database{f: f, wal: wal, size: int(binary.BigEndian.Uint16(head[16:]))}
	if d.size == 1 {
		d.size = 65536
	}
	d.usable = d.size - int(head[20])
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if d.size < 512 || d.usable < 480 {
		return nil, errSQLite
	}
	d.pages = int(st.Size() / int64(d.size))
	return d, d.readLog()
}

// readLog finds the pages in the write-ahead log, up to its last commit.
func (d *database) readLog() error {
	if d.wal == nil {
		return nil
	}
	var head [32]byte
	if _, err := d.wal.ReadAt(head[:], 0); err != nil || int(binary.BigEndian.Uint32(head[8:])) != d.size {
		return nil // empty, as after a clean end
	}
	d.frames = map[int]int64{}
	open := map[int]int64{} // since the last commit
	for at := int64(32); ; at += 24 + int64(d.size) {
		var frame [24]byte
		if _, err := d.wal.ReadAt(frame[:], at); err != nil || string(frame[8:16]) != string(head[16:24]) {
			return nil // the rest is from an earlier turn of the log
		}
		open[int(binary.BigEndian.Uint32(frame[:]))] = at + 24
		if n := int(binary.BigEndian.Uint32(frame[4:])); n != 0 {
			d.pages = max(d.pages, n)
			for p, where := range open {
				d.frames[p] = where
			}
			clear(open)
		}
	}
}

// page reads one, counted from 1.
func (d *database) page(n int) ([]byte, error) {
	if n < 1 || n > d.pages {
		return nil, errSQLite
	}
	b := make([]byte, d.size)
	var err error
	if at, ok := d.frames[n]; ok {
		_, err = d.wal.ReadAt(b, at)
	} else {
		_, err = d.f.ReadAt(b, int64(n-1)*int64(d.size))
	}
	if err != nil {
		return nil, fmt.Errorf("page %d: %w", n, errSQLite)
	}
	return b, nil
}

// table calls row with the columns of each row of a table.
func (d *database) table(name string, row func(columns []any) error) error {
	root := 0
	d.seen = map[int]bool{}
	err := d.walk(1, func(c []any) error { // the table of the tables
		if len(c) >= 4 && c[0] == "table" && c[1] == name {
			n, ok := c[3].(int64)
			if !ok {
				return errSQLite
			}
			root = int(n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if root == 0 {
		return fmt.Errorf("table %s: %w", name, errSQLite)
	}
	d.seen = map[int]bool{}
	return d.walk(root, row)
}

// walk goes through the tree below a page.
func (d *database) walk(n int, row func([]any) error) error {
	if d.seen[n] {
		return errSQLite
	}
	d.seen[n] = true
	p, err := d.page(n)
	if err != nil {
		return err
	}
	h := p
	if n == 1 {
		h = p[100:]
	}
	cells := int(binary.BigEndian.Uint16(h[3:]))
	leaf := h[0] == 0x0d
	if !leaf && h[0] != 0x05 {
		return errSQLite
	}
	pointers := h[12:]
	if leaf {
		pointers = h[8:]
	}
	if 2*cells > len(pointers) {
		return errSQLite
	}
	for i := range cells {
		at := int(binary.BigEndian.Uint16(pointers[2*i:]))
		if at+4 > len(p) {
			return errSQLite
		}
		if !leaf {
			err = d.walk(int(binary.BigEndian.Uint32(p[at:])), row)
		} else {
			err = d.cell(p[at:], row)
		}
		if err != nil {
			return err
		}
	}
	if leaf {
		return nil
	}
	return d.walk(int(binary.BigEndian.Uint32(h[8:])), row)
}

// maxRecord is the largest row that is read; a package's is some hundred kB.
const maxRecord = 64 << 20

// cell reads one row, which may go on in overflow pages.
func (d *database) cell(b []byte, row func([]any) error) error {
	size, n := varint(b)
	_, m := varint(b[n:]) // its number
	if n == 0 || m == 0 || size > maxRecord {
		return errSQLite
	}
	b = b[n+m:]
	want, local := int(size), int(size)
	if want > d.usable-35 {
		least := (d.usable-12)*32/255 - 23
		if local = least + (want-least)%(d.usable-4); local > d.usable-35 {
			local = least
		}
	}
	if local > len(b) || local < want && local+4 > len(b) {
		return errSQLite
	}
	record := append([]byte(nil), b[:local]...)
	next := 0
	if local < want {
		next = int(binary.BigEndian.Uint32(b[local:]))
	}
	for len(record) < want {
		p, err := d.page(next)
		if err != nil {
			return err
		}
		next = int(binary.BigEndian.Uint32(p))
		record = append(record, p[4:4+min(d.usable-4, want-len(record))]...)
	}
	columns, err := columnsOf(record)
	if err != nil {
		return err
	}
	return row(columns)
}

// columnsOf decodes a record: nil, int64, string or []byte each; what else there
// is becomes nil.
func columnsOf(b []byte) ([]any, error) {
	size, n := varint(b)
	if n == 0 || size > uint64(len(b)) || size < uint64(n) {
		return nil, errSQLite
	}
	kinds, data := b[n:size], b[size:]
	var all []any
	for len(kinds) > 0 {
		kind, n := varint(kinds)
		if n == 0 {
			return nil, errSQLite
		}
		kinds = kinds[n:]
		length := 0
		switch {
		case kind >= 12:
			length = int(min((kind-12)/2, maxRecord))
		case kind >= 1 && kind <= 7:
			length = []int{0, 1, 2, 3, 4, 6, 8, 8}[kind]
		}
		if length > len(data) {
			return nil, errSQLite
		}
		v := data[:length]
		data = data[length:]
		switch {
		case kind >= 12 && kind%2 == 0:
			all = append(all, v)
		case kind >= 13:
			all = append(all, string(v))
		case kind == 8, kind == 9:
			all = append(all, int64(kind-8))
		case kind >= 1 && kind <= 6:
			x := int64(int8(v[0]))
			for _, c := range v[1:] {
				x = x<<8 | int64(c)
			}
			all = append(all, x)
		default:
			all = append(all, nil)
		}
	}
	return all, nil
}

// varint reads SQLite's kind of number, and how long it is; 0 of a cut one.
func varint(b []byte) (uint64, int) {
	var x uint64
	for i := 0; i < 9 && i < len(b); i++ {
		if i == 8 {
			return x<<8 | uint64(b[i]), 9
		}
		x = x<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return x, i + 1
		}
	}
	return 0, 0
}
