package luks

import (
	"bytes"
	"crypto/aes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/xts"
)

const testIterations = 1000

func disk(t *testing.T, passphrase string, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, passphrase, testIterations)
	if err != nil {
		t.Fatal(err)
	}
	for part := range bytes.SplitAfterSeq(data, []byte{0}) { // parts of any length
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// open reads a disk as the specification says; ok is false for another passphrase.
func open(t *testing.T, disk []byte, passphrase string) (data []byte, ok bool) {
	t.Helper()
	number := func(at int) int { return int(binary.BigEndian.Uint32(disk[at:])) }
	derive := func(from string, salt []byte, n, size int) []byte {
		k, err := pbkdf2.Key(sha256.New, from, salt, n, size)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	plain := func(key, from []byte) []byte {
		c, err := xts.NewCipher(aes.NewCipher, key)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]byte, len(from))
		for i := 0; i < len(from); i += sectorSize {
			c.Decrypt(out[i:i+sectorSize], from[i:i+sectorSize], uint64(i/sectorSize))
		}
		return out
	}
	size := number(108)
	at := number(248) * sectorSize
	spread := plain(derive(passphrase, disk[216:248], number(212), size), disk[at:at+number(252)*size])
	key := make([]byte, size)
	for i := 0; i < len(spread); i += size {
		xor(key, spread[i:])
		if i+size < len(spread) {
			diffuse(key)
		}
	}
	if !bytes.Equal(derive(string(key), disk[132:164], number(164), digestSize), disk[112:132]) {
		return nil, false
	}
	return plain(key, disk[number(104)*sectorSize:]), true
}

func TestRoundTrip(t *testing.T) {
	data := bytes.Repeat([]byte("some text\x00, and more\x00"), 500)
	d := disk(t, "sesame", data)
	got, ok := open(t, d, "sesame")
	if !ok || !bytes.Equal(bytes.TrimRight(got, "\x00"), bytes.TrimRight(data, "\x00")) {
		t.Fatal("what was written is not what is read")
	}
	if _, ok := open(t, d, "Sesame"); ok {
		t.Fatal("another passphrase opens it")
	}
	if bytes.Contains(d, []byte("some text")) {
		t.Fatal("the text can be read without a passphrase")
	}
	if bytes.Equal(d[HeaderSize:HeaderSize+32], disk(t, "sesame", data)[HeaderSize:HeaderSize+32]) {
		t.Fatal("two disks have the same key")
	}
}

// TestCryptsetup: the usual program takes the disk for one of its own.
func TestCryptsetup(t *testing.T) {
	if _, err := exec.LookPath("cryptsetup"); err != nil {
		t.Skip("needs cryptsetup")
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, disk(t, "sesame", make([]byte, 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cryptsetup", "isLuks", "--type", "luks1", file).CombinedOutput(); err != nil {
		t.Fatalf("isLuks: %v: %s", err, out)
	}
	for passphrase, want := range map[string]bool{"sesame": true, "Sesame": false} {
		c := exec.Command("cryptsetup", "open", "--test-passphrase", "--key-file", "-", file)
		c.Stdin = strings.NewReader(passphrase)
		if out, err := c.CombinedOutput(); (err == nil) != want {
			t.Errorf("passphrase %q: %v: %s", passphrase, err, out)
		}
	}
}
