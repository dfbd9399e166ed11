package build

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// rpmHeader is a package's header as rpm stores it, and as much else as makes
// it too long for a page.
func rpmHeader(name, version, release, arch string, epoch int, padding int) []byte {
	var index, data bytes.Buffer
	n := 0
	put := func(tag, kind uint32, value []byte) {
		for kind == rpmInt32 && data.Len()%4 != 0 {
			data.WriteByte(0)
		}
		for _, v := range []uint32{tag, kind, uint32(data.Len()), 1} {
			_ = binary.Write(&index, binary.BigEndian, v)
		}
		data.Write(value)
		n++
	}
	for tag, s := range map[uint32]string{rpmName: name, rpmVersion: version, rpmRelease: release, rpmArch: arch} {
		put(tag, rpmString, append([]byte(s), 0))
	}
	if epoch > 0 {
		put(rpmEpoch, rpmInt32, binary.BigEndian.AppendUint32(nil, uint32(epoch)))
	}
	put(1005, rpmString, append(bytes.Repeat([]byte("d"), padding), 0))
	b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(n)), uint32(data.Len()))
	return append(append(b, index.Bytes()...), data.Bytes()...)
}

// makeRPMDB makes a database with SQLite itself; with a write-ahead log that is
// not written back, as after a crash.
func makeRPMDB(t *testing.T, dir string, log bool) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3, for its SQLite")
	}
	var script strings.Builder
	script.WriteString("import sqlite3,os\nc=sqlite3.connect('rpmdb.sqlite')\n")
	if log {
		script.WriteString("c.execute('PRAGMA journal_mode=WAL')\n")
	}
	script.WriteString("c.execute('CREATE TABLE Name (key TEXT)')\nc.execute('CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)')\n")
	for i := range 300 {
		fmt.Fprintf(&script, "c.execute('INSERT INTO Packages(blob) VALUES(?)',(bytes.fromhex('%x'),))\n", rpmHeader(fmt.Sprintf("p%d", i), "1.2", "3.fc40", "x86_64", i%2, i*40))
	}
	script.WriteString("c.commit()\nos._exit(0)\n")
	cmd := exec.Command("python3", "-c", script.String())
	if script.Len() > 100_000 {
		file := filepath.Join(dir, "make.py")
		if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd = exec.Command("python3", file)
	}
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestRPM(t *testing.T) {
	for _, log := range []bool{false, true} {
		dir := t.TempDir()
		makeRPMDB(t, dir, log)
		tree, err := openTree(dir, "image")
		if err != nil {
			t.Fatal(err)
		}
		defer tree.close()
		all, err := rpm(tree, "fedora", "/rpmdb.sqlite")
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != 300 {
			t.Fatalf("log %v: %d packages, want 300", log, len(all))
		}
		if got, want := all[7].PURL, "pkg:rpm/fedora/p7@1.2-3.fc40?arch=x86_64&epoch=1"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if got := all[8]; got.Name != "p8" || got.Version != "1.2-3.fc40" {
			t.Errorf("%+v", got)
		}
	}
}

func FuzzRPM(f *testing.F) {
	f.Add(rpmHeader("a", "1", "2", "noarch", 3, 10))
	f.Add([]byte("SQLite format 3\x00\x10\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rpmPackage(data, "x")
		_, _ = columnsOf(data)
		file := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if d, err := openDatabase(r, r); err == nil {
			_ = d.table("Packages", func([]any) error { return nil })
		}
	})
}
