package engine

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// harmlessOptions are what a container of an archive that another store has made may ask for: nothing of the host, and no more than
// any other container has.
var harmlessOptions = []string{
	"Image", "Name", "Command", "Entrypoint", "Env", "EnvMerge", "UnsetEnv", "UnsetEnvAll", "Labels", "Annotations", "WorkingDir", "User", "Umask",
	"Terminal", "Interactive", "Attach", "AutoRemove", "Restart", "StopSignal", "StopTimeout", "Timeout", "Hostname", "Domainname", "NoHostname",
	"Networks", "NetworkAliases", "IP", "IP6", "MAC", "Publish", "Expose", "DNS", "DNSSearch", "DNSOptions", "NoHosts", "Mounts", "ImageVolume",
	"ReadOnly", "ReadOnlyTmpfs", "ShmSize", "CapDrop", "Init", "Timezone", "Resources", "LogDriver", "Health", "CreateCommand", "CIDFile", "PidFile",
	"ConmonPidFile", "PidNS", "IpcNS", "UtsNS", "CgroupNS", "UserNS", "NetworkMode", "SdNotify", "Platform", "Pull", "Passwd", "ChrootDirs",
}

// harmless refuses options of an archive from elsewhere that would give its container something of the host (CHK-01): a list of what may be, so that
// what is new is refused until somebody has thought about it.
func harmless(o *CreateOptions) error {
	v := reflect.ValueOf(*o)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.IsExported() && !v.Field(i).IsZero() && !slices.Contains(harmlessOptions, f.Name) {
			return harm(f.Name)
		}
	}
	for name, ns := range map[string]string{"PidNS": o.PidNS, "IpcNS": o.IpcNS, "UtsNS": o.UtsNS, "CgroupNS": o.CgroupNS, "UserNS": o.UserNS, "NetworkMode": o.NetworkMode} {
		if !slices.Contains([]string{"", "private", "shareable", "bridge", "none", "default"}, ns) {
			return harm(name + " " + ns)
		}
	}
	for _, m := range o.Mounts {
		plain := m.Type == "tmpfs" || m.Type == "volume" && m.VolumeDriver == "" && len(m.VolumeOptions) == 0
		if !plain || slices.ContainsFunc(m.Options, func(o string) bool { return strings.Contains(o, "dir=") }) {
			return harm("a " + m.Type + " mount on " + m.Destination)
		}
	}
	for _, n := range o.Networks {
		if n.HostInterface != "" {
			return harm("an interface of the host, " + n.HostInterface)
		}
	}
	if strings.HasPrefix(o.LogDriver, "passthrough") {
		return harm("the log driver " + o.LogDriver)
	}
	return nil
}

func harm(what string) error {
	return hint(fmt.Errorf("the archive's container asks for more than one from elsewhere gets (%s)", what),
		"restore it with the store that made the checkpoint, or make it without")
}
