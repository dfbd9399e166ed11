package engine

import (
	"os"
	"path/filepath"
	"testing"
)

// The entry of Debian's qemu-user-static for arm64, as binfmt_misc shows it.
const debianArm64 = `enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
`

func TestRegistered(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "qemu-aarch64"), []byte(debianArm64), 0o644); err != nil {
		t.Fatal(err)
	}
	for arch, want := range map[string]bool{"arm64": true, "arm": false, "s390x": false, "riscv64": false} {
		if got := registered(dir, machines[arch]); got != want {
			t.Errorf("%s: registered is %v", arch, got)
		}
	}
}

func TestMagic(t *testing.T) {
	magic, mask := machines["s390x"].magic()
	if got, want := escapeBytes(magic), `\x7f\x45\x4c\x46\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16`; got != want {
		t.Errorf("magic %s, want %s", got, want)
	}
	if len(mask) != len(magic) {
		t.Errorf("mask of %d bytes for %d", len(mask), len(magic))
	}
}
