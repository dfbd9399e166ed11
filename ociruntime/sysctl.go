package ociruntime

import (
	"fmt"
	"slices"
	"strings"

	"hull/oci"
)

// ipcSysctls, besides those of fs.mqueue.
var ipcSysctls = []string{"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
	"kernel.shmmni", "kernel.shm_rmid_forced", "kernel.msg_next_id", "kernel.sem_next_id", "kernel.shm_next_id"}

// SysctlNamespace is the kind of namespace that has a setting of its own. One that
// belongs to none would change the host, and is an error (CVE-2022-0811).
func SysctlNamespace(key string) (oci.LinuxNamespaceType, error) {
	name := key
	if first := strings.IndexAny(key, "./"); first >= 0 && key[first] == '/' {
		name = strings.ReplaceAll(key, "/", ".")
	}
	switch {
	case key == "" || strings.Contains(key, "..") || strings.Contains(key, "//") || strings.HasPrefix(key, "/") || strings.HasPrefix(key, "."):
		return "", fmt.Errorf("sysctl %q is not a name", key)
	case strings.HasPrefix(name, "net."):
		return oci.NetworkNamespace, nil
	case strings.HasPrefix(name, "fs.mqueue."), slices.Contains(ipcSysctls, name):
		return oci.IPCNamespace, nil
	case name == "kernel.domainname", name == "kernel.hostname":
		return oci.UTSNamespace, nil
	case strings.HasPrefix(name, "user."):
		return oci.UserNamespace, nil
	}
	return "", fmt.Errorf("sysctl %q belongs to no namespace: it would change the host", key)
}
