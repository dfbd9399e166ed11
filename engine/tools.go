package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"hull/image"
	"hull/oci"
)

// toolsName is the image of the tools that Debug brings: the host's static
// busybox and the tracer of the installation.
const toolsName = "hull/tools"

// busyboxes are where distributions put the busybox that needs no libraries.
var busyboxes = []string{"/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static", "/usr/sbin/busybox", "/usr/local/bin/busybox", "/usr/lib/initramfs-tools/bin/busybox"}

// tools is the built-in image of Debug, made when it is first asked for.
func (e *Engine) tools() image.Builtin {
	name, err := oci.ParseReference("localhost/" + toolsName + ":latest")
	if err != nil {
		panic("bug: " + err.Error())
	}
	return image.Builtin{Name: name, Open: func() (io.ReadCloser, error) {
		busybox, err := staticBusybox()
		if err != nil {
			return nil, fmt.Errorf("make image %s: %w", toolsName, err)
		}
		files := []builtinFile{{"etc/passwd", 0o644, []byte("root:x:0:0:root:/:/bin/sh\n")}, {"etc/group", 0o644, []byte("root:x:0:\n")}, {"bin/busybox", 0o755, busybox}}
		if trace, err := os.ReadFile(filepath.Join(e.o.LibexecDir, "hull-trace")); err == nil {
			files = append(files, builtinFile{"bin/hull-trace", 0o755, trace})
		}
		archive, err := builtinArchive(toolsName, files, oci.ImageConfig{Cmd: []string{"/bin/busybox", "sh"}, Env: []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin:/container/bin:/container/usr/bin"}})
		if err != nil {
			return nil, fmt.Errorf("make image %s: %w", toolsName, err)
		}
		return io.NopCloser(bytes.NewReader(archive)), nil
	}}
}

// staticBusybox reads the host's busybox that runs in any root.
func staticBusybox() ([]byte, error) {
	for _, path := range busyboxes {
		if b, err := os.ReadFile(path); err == nil && isStatic(b) {
			return b, nil
		}
	}
	return nil, hint(errors.New("this host has no static busybox"), "install it (package busybox-static or busybox), or name an image with tools: --image IMAGE")
}

// isStatic says that a program asks for no loader: none of its segments is an
// interpreter (ELF specification, program header).
func isStatic(elf []byte) bool {
	const phoff, phentsize, interp = 32, 54, 3
	if len(elf) < 64 || string(elf[:4]) != "\x7fELF" || elf[4] != 2 || elf[5] != 1 {
		return false
	}
	off, size := binary.LittleEndian.Uint64(elf[phoff:]), uint64(binary.LittleEndian.Uint16(elf[phentsize:]))
	for range binary.LittleEndian.Uint16(elf[phentsize+2:]) {
		if off > uint64(len(elf))-4 {
			return false
		}
		if binary.LittleEndian.Uint32(elf[off:]) == interp {
			return false
		}
		off += size
	}
	return true
}
