package seccomp

import (
	"fmt"
	"runtime"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// abi is one way to enter the kernel: what seccomp_data tells of it, and its numbers.
type abi struct {
	name   specs.Arch
	goarch string // the GOARCH that runs it natively; "" for an ABI that only comes along
	audit  uint32 // seccomp_data.arch
	calls  *[len(callNames)]int32
	narrow bool   // registers of 32 bits: the high half of each argument is zero
	big    bool   // big endian: the high half of an argument comes first
	bit    uint32 // or'ed to each number: x32 shares amd64's audit architecture
}

const x32Bit = 0x40000000

// abis lists the ABIs with tables. Those without (mips, 31-bit s390, parisc…) can be named in a profile but are never entered on a
// kernel of these architectures, or are killed as foreign.
func abis() []abi {
	return []abi{
		{name: specs.ArchX86_64, goarch: "amd64", audit: unix.AUDIT_ARCH_X86_64, calls: &calls_amd64},
		{name: specs.ArchX86, goarch: "386", audit: unix.AUDIT_ARCH_I386, calls: &calls_386, narrow: true},
		{name: specs.ArchX32, audit: unix.AUDIT_ARCH_X86_64, calls: &calls_amd64, bit: x32Bit},
		{name: specs.ArchAARCH64, goarch: "arm64", audit: unix.AUDIT_ARCH_AARCH64, calls: &calls_arm64},
		{name: specs.ArchARM, goarch: "arm", audit: unix.AUDIT_ARCH_ARM, calls: &calls_arm, narrow: true},
		{name: specs.ArchRISCV64, goarch: "riscv64", audit: unix.AUDIT_ARCH_RISCV64, calls: &calls_riscv64},
		{name: specs.ArchLOONGARCH64, goarch: "loong64", audit: unix.AUDIT_ARCH_LOONGARCH64, calls: &calls_loong64},
		{name: specs.ArchPPC64LE, goarch: "ppc64le", audit: unix.AUDIT_ARCH_PPC64LE, calls: &calls_ppc64le},
		{name: specs.ArchS390X, goarch: "s390x", audit: unix.AUDIT_ARCH_S390X, calls: &calls_s390x, big: true},
	}
}

// nativeABI gives the ABI a GOARCH runs.
func nativeABI(goarch string) (abi, error) {
	all := abis()
	if i := slices.IndexFunc(all, func(a abi) bool { return goarch != "" && a.goarch == goarch }); i >= 0 {
		return all[i], nil
	}
	return abi{}, fmt.Errorf("find system call table: no table for architecture %q", goarch)
}

// knownArch tells a name of the runtime-spec from a typing error.
func knownArch(a specs.Arch) bool {
	switch a {
	case specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64, specs.ArchMIPS, specs.ArchMIPS64,
		specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64,
		specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64, specs.ArchRISCV64,
		specs.ArchLOONGARCH64, specs.ArchM68K, specs.ArchSH, specs.ArchSHEB:
		return true
	}
	return false
}

// numbers appends the numbers that name has in a: none, one, or two, since x32 has own entries for calls with pointers in
// structures and kernels before 5.4 took amd64's number too.
func (a *abi) numbers(dst []uint32, index int, name string) []uint32 {
	if nr := a.calls[index]; nr >= 0 {
		dst = append(dst, uint32(nr)|a.bit)
	}
	if a.bit == x32Bit {
		if i := slices.Index(x32Own[:], name); i >= 0 {
			dst = append(dst, uint32(512+i)|a.bit)
		}
	}
	return dst
}

// x32Own are the calls 512… that only x32 has, in order (arch/x86/entry/syscalls/syscall_64.tbl).
var x32Own = [...]string{
	"rt_sigaction", "rt_sigreturn", "ioctl", "readv", "writev", "recvfrom", "sendmsg", "recvmsg", "execve", "ptrace",
	"rt_sigpending", "rt_sigtimedwait", "rt_sigqueueinfo", "sigaltstack", "timer_create", "mq_notify", "kexec_load", "waitid",
	"set_robust_list", "get_robust_list", "vmsplice", "move_pages", "preadv", "pwritev", "rt_tgsigqueueinfo", "recvmmsg",
	"sendmmsg", "process_vm_readv", "process_vm_writev", "setsockopt", "getsockopt", "io_setup", "io_submit", "execveat",
	"preadv2", "pwritev2",
}

// callIndex finds name in callNames.
func callIndex(name string) (int, bool) { return slices.BinarySearch(callNames[:], name) }

// CallNames are the names of this architecture's system calls by number; empty
// where there is no table.
func CallNames() map[int64]string {
	names := map[int64]string{}
	if a, err := nativeABI(runtime.GOARCH); err == nil {
		for i, nr := range a.calls {
			if nr >= 0 {
				names[int64(nr)] = callNames[i]
			}
		}
	}
	return names
}
