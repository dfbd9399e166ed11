package build

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/engine"
	"hull/image"
	"hull/inroot"
	"hull/luks"
	"hull/oci"
)

// Confidential says that the image's file system becomes an encrypted disk,
// which libkrun opens in a virtual machine whose memory its host cannot read.
// The zero value of a field is its default.
type Confidential struct {
	Type           string // ConfidentialSNP, or ConfidentialSEV
	AttestationURL string // of the server that gives the passphrase to who proves what he is
	Passphrase     string // "" makes one, which only the server gets to know
	WorkloadID     string
	CPUs, Memory   int    // of the machine: 2 and 512 MiB
	Slop           string // room beside the files: "25%", "100m", or several with + between
	Firmware       string // libkrunfw-sev: a path, or a name in the usual directories
	// IgnoreAttestation makes warnings of what goes wrong with the server.
	IgnoreAttestation bool
}

// Types of Confidential: AMD's Secure Nested Paging, and its older Encrypted State.
const (
	ConfidentialSNP = "snp"
	ConfidentialSEV = "sev"
)

// Check looks for what could only go wrong later.
func (c *Confidential) Check() error {
	if c.Type != ConfidentialSNP && c.Type != ConfidentialSEV {
		return fmt.Errorf("confidential workload: type %q is not one of %s, %s", c.Type, ConfidentialSNP, ConfidentialSEV)
	}
	if c.AttestationURL == "" && c.Passphrase == "" {
		return &hintError{errors.New("confidential workload: nobody would know the passphrase"), "give attestation_url=URL, passphrase=TEXT or both"}
	}
	_, err := c.room(0)
	return err
}

// minDisk is the smallest disk: a file system needs room of its own.
const minDisk = 10 << 20

// room is the size of the disk for so many bytes of files.
func (c *Confidential) room(size int64) (int64, error) {
	slop := c.Slop
	if slop == "" {
		slop = "25%"
	}
	for part := range strings.SplitSeq(slop, "+") {
		part = strings.TrimSpace(part)
		if text, ok := strings.CutSuffix(part, "%"); ok {
			var percent int64
			if _, err := fmt.Sscanf(text+" ", "%d ", &percent); err != nil || percent < 0 || percent > 10000 {
				return 0, fmt.Errorf("confidential workload: slop %q is no percentage", part)
			}
			size += size / 100 * percent
			continue
		}
		more, err := engine.ParseSize(part)
		if err == nil && more < 0 {
			err = fmt.Errorf("%q is no size", part)
		}
		if err != nil {
			return 0, fmt.Errorf("confidential workload: slop: %w", err)
		}
		size += more
	}
	const block = 4096
	return max((size+block-1)/block*block, minDisk), nil
}

// A workload is krun-sev.json, as libkrun reads it.
type workload struct {
	Type        string `json:"tee"`
	Data        string `json:"tee_data"` // JSON of its own, by type
	ID          string `json:"workload_id"`
	CPUs        int    `json:"cpus"`
	Memory      int    `json:"ram_mib"`
	Attestation string `json:"attestation_url"`
}

// confidential replaces the image by one whose file system is an encrypted
// disk. What was built stays in the store as steps of the build.
func (st *stage) confidential(ctx context.Context, c Confidential) error {
	if st.config.Architecture != "amd64" {
		return fmt.Errorf("these machines are amd64, the image is for %s", st.config.Architecture)
	}
	dir, err := st.b.temp("confidential")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if c.Passphrase == "" {
		key := make([]byte, 32)
		rand.Read(key)
		c.Passphrase = hex.EncodeToString(key)
	}
	w, chain, err := st.workload(ctx, c, dir)
	if err != nil {
		return err
	}
	disk := filepath.Join(dir, "disk")
	size, err := st.makeDisk(ctx, c, disk)
	if err != nil {
		return err
	}
	if c.AttestationURL != "" {
		warn := func(err error) { st.b.Show(Event{Kind: Warning, Text: err.Error()}) }
		if err := c.register(ctx, w, warn); err != nil {
			if !c.IgnoreAttestation {
				return err
			}
			warn(err)
		}
	}
	return st.encrypted(ctx, c, w, chain, disk, size)
}

// workload describes it, with the certificates of this machine where its type
// needs them.
func (st *stage) workload(ctx context.Context, c Confidential, dir string) (workload, []byte, error) {
	w := workload{Type: c.Type, ID: c.WorkloadID, CPUs: c.CPUs, Memory: c.Memory, Attestation: c.AttestationURL}
	if w.CPUs == 0 {
		w.CPUs = 2
	}
	if w.Memory == 0 {
		w.Memory = 512
	}
	if w.ID == "" {
		w.ID = key("workload", st.chain(), time.Now(), os.Getpid())
	}
	if c.Type == ConfidentialSNP {
		w.Data = `{"gen":"milan"}`
		return w, nil, nil
	}
	file := filepath.Join(dir, "chain")
	out, err := exec.CommandContext(ctx, "sevctl", "export", "-f", file).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("get this machine's certificates: sevctl: %w %s", err, bytes.TrimSpace(out))
		if !c.IgnoreAttestation {
			return w, nil, err
		}
		st.b.Show(Event{Kind: Warning, Text: err.Error()})
	}
	chain, _ := os.ReadFile(file)
	data := map[string]string{"vendor_chain": "", "attestation_server_pubkey": ""}
	if len(chain) > 0 {
		data["vendor_chain"] = "/sev.chain"
	}
	text, err := json.Marshal(data)
	w.Data = string(text)
	return w, chain, err
}

// makeDisk makes a file system of the image's files and its configuration,
// which the init process of libkrun looks for among them.
func (st *stage) makeDisk(ctx context.Context, c Confidential, file string) (int64, error) {
	config, err := json.Marshal(st.config)
	if err != nil {
		return 0, err
	}
	l, err := st.addTar(ctx, func(w *tar.Writer) error { return writeEntry(w, ".krun_config.json", 0o600, config, st.b.o.now()) })
	if err != nil {
		return 0, err
	}
	if err := st.b.Images.MarkGarbage(); err != nil {
		return 0, err
	}
	root, err := st.b.Snapshots.ViewTree(l.Chain)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	used, err := treeSize(root)
	if err != nil {
		return 0, err
	}
	size, err := c.room(used)
	if err != nil {
		return 0, err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return 0, err
	}
	mk := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-d", "/proc/self/fd/3/", file)
	mk.ExtraFiles = []*os.File{root}
	if out, err := mk.CombinedOutput(); err != nil {
		err = fmt.Errorf("make the file system: mkfs.ext4: %w %s", err, bytes.TrimSpace(out))
		if errors.Is(err, exec.ErrNotFound) {
			return 0, &hintError{err, "it is in the package e2fsprogs"}
		}
		return 0, &hintError{err, "if the files do not fit, give more room: slop=50%"}
	}
	return size, nil
}

// treeSize is what the files of a tree need on a disk, with their inodes.
func treeSize(root *os.File) (int64, error) {
	var size int64
	var walk func(dir *os.File) error
	walk = func(dir *os.File) error {
		names, err := dir.Readdirnames(-1)
		if err != nil {
			return err
		}
		for _, n := range names {
			var st unix.Stat_t
			if err := unix.Fstatat(int(dir.Fd()), n, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
			size += (st.Size+4095)/4096*4096 + 256
			if isDir(st) {
				sub, err := inroot.Open(dir, n, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
				if err != nil {
					return err
				}
				err = walk(sub)
				sub.Close()
				if err != nil {
					return err
				}
			}
		}
		return nil
	}
	top, err := inroot.Open(root, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return 0, err
	}
	defer top.Close()
	return size, walk(top)
}

// encrypted makes the image: the disk, what libkrun must know of it, and a
// program for who runs it without libkrun.
func (st *stage) encrypted(ctx context.Context, c Confidential, w workload, chain []byte, disk string, size int64) error {
	about, err := json.Marshal(w)
	if err != nil {
		return err
	}
	now := st.b.o.now()
	var l image.Layer
	err = pipeTar(func(t *tar.Writer) error {
		for _, x := range []struct {
			name string
			mode int64
			data []byte
		}{{"entrypoint", 0o755, noticeProgram()}, {"sev.chain", 0o600, chain}, {"krun-sev.json", 0o600, about}} {
			if len(x.data) > 0 {
				if err := writeEntry(t, x.name, x.mode, x.data, now); err != nil {
					return err
				}
			}
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777, ModTime: now, Format: tar.FormatPAX}); err != nil {
			return err
		}
		return writeDisk(t, c.Passphrase, about, disk, size, now)
	}, func(r reader) (err error) {
		l, err = st.b.Images.AddLayer(ctx, "", r, image.LayerOptions{})
		return err
	})
	if err != nil {
		return err
	}
	old := st.config.Config
	st.config.Config = oci.ImageConfig{Entrypoint: []string{"/entrypoint"}, Labels: old.Labels, ExposedPorts: old.ExposedPorts, StopSignal: old.StopSignal}
	st.config.History = []oci.History{{Created: &now, CreatedBy: "confidential workload of " + st.from}}
	st.config.Created = &now
	st.base, st.layers, st.fresh, st.changed = nil, []image.Layer{l}, 0, true
	return nil
}

// writeDisk encrypts the disk while it is read. After it comes what libkrun
// looks for at the end: the description, a word, and the description's length.
func writeDisk(t *tar.Writer, passphrase string, about []byte, disk string, size int64, at time.Time) error {
	end := append(bytes.Clone(about), "KRUN"...)
	end = binary.LittleEndian.AppendUint64(end, uint64(len(about)))
	const block = 4096
	all := luks.HeaderSize + size + int64(len(end))
	fill := (block - all%block) % block
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "disk.img", Mode: 0o600, Size: all + fill, ModTime: at, Format: tar.FormatPAX}); err != nil {
		return err
	}
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := luks.NewWriter(t, passphrase, luks.Iterations)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, io.LimitReader(f, size)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_, err = t.Write(append(make([]byte, fill), end...))
	return err
}

func writeEntry(t *tar.Writer, name string, mode int64, data []byte, at time.Time) error {
	err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), ModTime: at, Format: tar.FormatPAX})
	if err == nil {
		_, err = t.Write(data)
	}
	return err
}

// noticeProgram is an executable for amd64 that says what the image is, and
// fails: write(2, text), exit(1).
func noticeProgram() []byte {
	const text = "This image is a confidential workload: run it with krun on a machine with AMD SEV.\n"
	const base, head = 0x400000, 64 + 56
	code := []byte{
		0xb8, 1, 0, 0, 0, 0xbf, 2, 0, 0, 0, // mov eax, 1; mov edi, 2
		0x48, 0x8d, 0x35, 19, 0, 0, 0, // lea rsi, [rip+19]: behind the code
		0xba, byte(len(text)), 0, 0, 0, 0x0f, 0x05, // mov edx, len; syscall
		0xb8, 60, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x0f, 0x05, // mov eax, 60; mov edi, 1; syscall
	}
	le := binary.LittleEndian
	b := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	b = le.AppendUint16(le.AppendUint16(b, 2), 62)        // executable, amd64
	b = le.AppendUint64(le.AppendUint32(b, 1), base+head) // version, entry
	b = le.AppendUint64(le.AppendUint64(b, 64), 0)        // segments, no sections
	for _, v := range []uint16{0, 0, 64, 56, 1, 64, 0, 0} {
		b = le.AppendUint16(b, v) // flags, sizes and numbers
	}
	b = le.AppendUint32(le.AppendUint32(b, 1), 5) // a segment to load, to read and execute
	size := uint64(head + len(code) + len(text))
	for _, v := range []uint64{0, base, base, size, size, 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return append(append(b, code...), text...)
}
