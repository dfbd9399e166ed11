package build_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// arm64Program is a program for arm64 of 155 bytes: it prints "ok".
func arm64Program() []byte {
	code := []uint32{
		0xd2800020, // mov x0, #1
		0x100000e1, // adr x1, text
		0xd2800062, // mov x2, #3
		0xd2800808, // mov x8, #64 (write)
		0xd4000001, // svc #0
		0xd2800000, // mov x0, #0
		0xd2800ba8, // mov x8, #93 (exit)
		0xd4000001, // svc #0
	}
	const base, headers = 0x400000, 64 + 56
	size := uint64(headers + 4*len(code) + 3)
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9))
	for _, v := range []any{uint16(2), uint16(183), uint32(1), uint64(base + headers), uint64(64), uint64(0), uint32(0), uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x1000), code} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	b.WriteString("ok\n")
	return b.Bytes()
}

// TestForeignArchitecture runs a program of another architecture, as root and
// as a user, and leaves nothing registered.
func TestForeignArchitecture(t *testing.T) {
	if _, err := exec.LookPath("qemu-aarch64-static"); err != nil {
		t.Skip("needs Debian's qemu-user-static")
	}
	h := newHull(t)
	archive := filepath.Join(t.TempDir(), "base.tar")
	h.do(t, "save", "-q", "-o", archive, "localhost/base:1")
	dir := write(t, map[string]string{"sh": string(arm64Program()), "Containerfile": "FROM scratch\nCOPY --chmod=755 sh /bin/sh\nRUN anything\n"})
	makeReadable(t, dir)
	before, _ := os.ReadDir("/proc/sys/fs/binfmt_misc")
	for _, s := range []*hull{h, h.asUser(t, archive)} {
		if s == nil {
			continue
		}
		out, err := s.try("build", "--platform", "linux/arm64", "-t", "foreign:1", dir)
		if err != nil && strings.Contains(out, "binfmt_misc") {
			t.Logf("this kernel has none for users: %s", out)
			continue
		}
		if err != nil || !strings.Contains(out, "\nok\n") {
			t.Errorf("%v\n%s", err, out)
		}
		if a := s.do(t, "image", "inspect", "--format", "{{.Architecture}}", "foreign:1"); a != "arm64" {
			t.Errorf("the image is for %s", a)
		}
	}
	if after, _ := os.ReadDir("/proc/sys/fs/binfmt_misc"); len(after) != len(before) {
		t.Errorf("registered before: %v, after: %v", before, after)
	}
}

// TestAttestations: the list of an image and what is stated about it.
func TestAttestations(t *testing.T) {
	h := newHull(t)
	dir := write(t, map[string]string{"Containerfile": "FROM localhost/base:1\nARG TOKEN\nRUN echo 1 > /1\n"})
	build := func(args ...string) string {
		h.do(t, append(append([]string{"build", "-q", "-t", "att:1", "--timestamp", "0"}, args...), dir)...)
		return h.do(t, "manifest", "inspect", "att:1")
	}
	first := build("--provenance=min", "--attest", "type=sbom", "--build-arg", "TOKEN=canary")
	for _, want := range []string{`"vnd.docker.reference.type": "attestation-manifest"`, `"architecture": "unknown"`, h.do(t, "image", "inspect", "--format", "{{.Digest}}", "att:1")} {
		if !strings.Contains(first, want) {
			t.Errorf("%q is not in\n%s", want, first)
		}
	}
	if again := build("--provenance=min", "--attest", "type=sbom", "--build-arg", "TOKEN=canary", "--no-cache"); again != first {
		t.Errorf("built again:\n%s\nwant:\n%s", again, first)
	}
	grepBlobs(t, h, `"predicateType":"https://slsa.dev/provenance/v1"`, 1)
	grepBlobs(t, h, `"TOKEN":"canary"`, 0)
	build("--provenance=max", "--build-arg", "TOKEN=canary")
	grepBlobs(t, h, `"TOKEN":"canary"`, 1)
	h.do(t, "rmi", "att:1")
	h.do(t, "image", "prune", "-f")
	grepBlobs(t, h, `"predicateType"`, 0)
}

// grepBlobs counts the blobs with a text.
func grepBlobs(t *testing.T, h *hull, text string, want int) {
	t.Helper()
	out, _ := exec.Command("grep", "-rlF", text, filepath.Join(h.root, "sha256")).Output() // 1 is none
	if n := strings.Count(string(out), "\n"); n != want {
		t.Errorf("%q is in %d blobs, want %d", text, n, want)
	}
}
