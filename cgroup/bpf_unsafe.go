package cgroup

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands and types of bpf(2).
const (
	bpfProgLoad   = 5
	bpfProgAttach = 8

	bpfCgroupDevice       = 15 // BPF_PROG_TYPE_CGROUP_DEVICE
	bpfAttachCgroupDevice = 6  // BPF_CGROUP_DEVICE
)

// attachDevices loads the program and attaches it to the cgroup that fd is
// open on; without flags it replaces one that is there.
func attachDevices(cgroup int, prog []byte) error {
	license := []byte("Apache-2.0\x00")
	load := struct {
		kind, count      uint32
		insns, license   uint64
		level, size      uint32
		log              uint64
		version, flags   uint32
		name             [16]byte
		ifindex, attachT uint32
	}{kind: bpfCgroupDevice, count: uint32(len(prog) / 8)}
	load.insns, load.license = uint64(uintptr(unsafe.Pointer(&prog[0]))), uint64(uintptr(unsafe.Pointer(&license[0])))
	copy(load.name[:], "hull_devices")
	fd, _, errno := unix.Syscall(unix.SYS_BPF, bpfProgLoad, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	if errno != 0 {
		return fmt.Errorf("load program: %w", os.NewSyscallError("bpf", errno))
	}
	defer unix.Close(int(fd))
	attach := struct{ target, prog, kind, flags, replace uint32 }{target: uint32(cgroup), prog: uint32(fd), kind: bpfAttachCgroupDevice}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, bpfProgAttach, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach)); errno != 0 {
		return fmt.Errorf("attach program: %w", os.NewSyscallError("bpf", errno))
	}
	return nil
}
