package ociruntime

import (
	"fmt"
	"strings"
)

// capabilityNames in the order of their numbers, without CAP_.
var capabilityNames = []string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
	"NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO",
	"SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
	"SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
	"WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

// capabilityBits is the set as a mask. Unknown names are an error: a
// capability that is dropped because it was misspelt would be no harm, one
// that stays would.
func capabilityBits(names []string) (set uint64, err error) {
	for _, n := range names {
		found := false
		for i, c := range capabilityNames {
			if strings.TrimPrefix(n, "CAP_") == c && strings.HasPrefix(n, "CAP_") {
				set |= 1 << i
				found = true
			}
		}
		if !found {
			return 0, fmt.Errorf("capability %q is not known", n)
		}
	}
	return set, nil
}

// bitNames is the inverse of capabilityBits.
func bitNames(set uint64) []string {
	var out []string
	for i, c := range capabilityNames {
		if set>>i&1 == 1 {
			out = append(out, "CAP_"+c)
		}
	}
	return out
}
