// Package luks writes encrypted disks that Linux opens by a passphrase: LUKS1,
// with AES-256 in XTS mode.
//
// A disk is a header, which has the key of the data encrypted under one made of
// the passphrase, and the data, each sector of 512 bytes for itself. The key is
// spread over many stripes, so that a disk which forgets any part of them has
// forgotten it. See the LUKS On-Disk Format Specification, version 1.2.3.
package luks

import (
	"crypto/aes"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/crypto/xts"
)

const (
	sectorSize = 512
	keySize    = 64 // two keys of AES-256
	stripes    = 4000
	slots      = 8
	slotOn     = 0x00AC71F3
	slotOff    = 0x0000DEAD
	digestSize = 20
	saltSize   = 32
	// Sectors: of the key's stripes, each slot's on a border of 4 KiB, and where
	// the data begins, on one of 1 MiB.
	firstSlot = 8
	slotSize  = 504
	dataBegin = 4096
)

// HeaderSize is how many bytes come before the data.
const HeaderSize = dataBegin * sectorSize

// Iterations is how often the passphrase is hashed: half a second of work for
// who tries one.
const Iterations = 1_000_000

// A Writer encrypts what is written to it. Its Close writes the last sector,
// filled up with zeros.
type Writer struct {
	w      io.Writer
	cipher *xts.Cipher
	sector uint64
	buf    []byte
	err    error
}

// NewWriter writes a header for passphrase to w. iterations is Iterations, or
// fewer in tests.
func NewWriter(w io.Writer, passphrase string, iterations int) (*Writer, error) {
	key := random(keySize)
	header, err := header(key, passphrase, iterations)
	if err != nil {
		return nil, fmt.Errorf("encrypt disk: %w", err)
	}
	c, err := xts.NewCipher(aes.NewCipher, key)
	if err != nil {
		return nil, fmt.Errorf("encrypt disk: %w", err)
	}
	if _, err := w.Write(header); err != nil {
		return nil, err
	}
	return &Writer{w: w, cipher: c}, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand
	return b
}

// header makes all that comes before the data.
func header(key []byte, passphrase string, iterations int) ([]byte, error) {
	h := make([]byte, HeaderSize)
	put32 := func(at, v int) { binary.BigEndian.PutUint32(h[at:], uint32(v)) }
	copy(h, "LUKS\xba\xbe\x00\x01")
	copy(h[8:], "aes")
	copy(h[40:], "xts-plain64")
	copy(h[72:], "sha256")
	put32(104, dataBegin)
	put32(108, keySize)
	salt := random(saltSize)
	digest, err := pbkdf2.Key(sha256.New, string(key), salt, iterations, digestSize)
	if err != nil {
		return nil, err
	}
	copy(h[112:], digest)
	copy(h[132:], salt)
	put32(164, iterations)
	id := random(16)
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // a random UUID (RFC 9562)
	copy(h[168:], fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]))
	for i := range slots {
		at := 208 + 48*i
		put32(at, slotOff)
		put32(at+40, firstSlot+slotSize*i)
		put32(at+44, stripes)
	}
	slotSalt := random(saltSize)
	put32(208, slotOn)
	put32(212, iterations)
	copy(h[216:], slotSalt)
	under, err := pbkdf2.Key(sha256.New, passphrase, slotSalt, iterations, keySize)
	if err != nil {
		return nil, err
	}
	c, err := xts.NewCipher(aes.NewCipher, under)
	if err != nil {
		return nil, err
	}
	spread := split(key)
	for i := range len(spread) / sectorSize {
		part := spread[i*sectorSize : (i+1)*sectorSize]
		c.Encrypt(h[firstSlot*sectorSize+i*sectorSize:], part, uint64(i))
	}
	return h, nil
}

// split spreads a key over stripes (the specification's AFsplit).
func split(key []byte) []byte {
	all := random(stripes * keySize)
	d := make([]byte, keySize)
	for i := range stripes - 1 {
		xor(d, all[i*keySize:])
		diffuse(d)
	}
	last := all[(stripes-1)*keySize:]
	copy(last, key)
	xor(last, d)
	return all
}

func xor(d, with []byte) {
	for i := range d {
		d[i] ^= with[i]
	}
}

// diffuse hashes each part of d with its number.
func diffuse(d []byte) {
	for i := 0; i*sha256.Size < len(d); i++ {
		part := d[i*sha256.Size:]
		part = part[:min(len(part), sha256.Size)]
		sum := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, uint32(i)), part...))
		copy(part, sum[:])
	}
}

// Write encrypts whole sectors and keeps the rest for the next call.
func (w *Writer) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	whole := len(w.buf) / sectorSize * sectorSize
	for at := 0; at < whole; at += sectorSize {
		part := w.buf[at : at+sectorSize]
		w.cipher.Encrypt(part, part, w.sector)
		w.sector++
	}
	if w.err == nil && whole > 0 {
		_, w.err = w.w.Write(w.buf[:whole])
	}
	w.buf = append(w.buf[:0], w.buf[whole:]...)
	return len(p), w.err
}

// Close does not close what is written to.
func (w *Writer) Close() error {
	if n := len(w.buf); n > 0 {
		w.Write(make([]byte, sectorSize-n))
	}
	return w.err
}
