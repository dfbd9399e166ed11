package ociruntime

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"hull/oci"
)

// Validate refuses a configuration that cannot be meant or that this runtime
// would not do as it says: what is not understood is an error, not passed over.
func Validate(spec *oci.Spec) error {
	bad := func(format string, args ...any) error { return fmt.Errorf("config.json: "+format, args...) }
	if spec == nil {
		return errors.New("config.json: empty")
	}
	if !strings.HasPrefix(spec.Version, "1.") {
		return bad("ociVersion %q is not supported", spec.Version)
	}
	if err := validateProcess(spec.Process, bad); err != nil {
		return err
	}
	for i, m := range spec.Mounts {
		switch {
		case m.Destination == "" || path.Clean("/"+m.Destination) == "/":
			return bad("mounts[%d].destination %q is not below the root", i, m.Destination)
		case isBind(m) && !path.IsAbs(m.Source):
			return bad("mounts[%d].source %q of a bind mount is not an absolute path", i, m.Source)
		case (len(m.UIDMappings) == 0) != (len(m.GIDMappings) == 0):
			return bad("mounts[%d] on %s has uidMappings or gidMappings alone", i, m.Destination)
		case !isBind(m) && m.Type == "":
			return bad("mounts[%d] on %s has no type", i, m.Destination)
		}
	}
	return validateLinux(spec, bad)
}

func validateProcess(p *oci.Process, bad func(string, ...any) error) error {
	if p == nil {
		return nil
	}
	if p.Cwd != "" && !path.IsAbs(p.Cwd) {
		return bad("process.cwd %q is not an absolute path", p.Cwd)
	}
	for _, s := range append(append([]string{p.Cwd}, p.Args...), p.Env...) {
		if strings.IndexByte(s, 0) >= 0 {
			return bad("process: a string holds a zero byte")
		}
	}
	if caps := p.Capabilities; caps != nil {
		for _, names := range [][]string{caps.Bounding, caps.Effective, caps.Permitted, caps.Inheritable, caps.Ambient} {
			if _, err := capabilityBits(names); err != nil {
				return bad("process.capabilities: %w", err)
			}
		}
	}
	seen := make(map[string]bool, len(p.Rlimits))
	for _, l := range p.Rlimits {
		if seen[l.Type] {
			return bad("process.rlimits: %s occurs twice", l.Type)
		}
		seen[l.Type] = true
		if _, ok := rlimitNumbers[l.Type]; !ok {
			return bad("process.rlimits: %q is not known", l.Type)
		}
		if l.Soft > l.Hard {
			return bad("process.rlimits: %s: soft %d is above hard %d", l.Type, l.Soft, l.Hard)
		}
	}
	return nil
}

func validateLinux(spec *oci.Spec, bad func(string, ...any) error) error {
	l := spec.Linux
	if l == nil {
		return nil
	}
	seen, err := validateNamespaces(l, bad)
	if err != nil {
		return err
	}
	if len(l.MaskedPaths) > 0 && !seen[oci.MountNamespace] {
		return bad("linux.maskedPaths without a mount namespace would be the host's: unable to restrict sys entries without a private MNT namespace")
	}
	if (len(l.UIDMappings) > 0 || len(l.GIDMappings) > 0) && !seen[oci.UserNamespace] {
		return bad("linux.uidMappings without a user namespace")
	}
	if spec.Hostname != "" && !seen[oci.UTSNamespace] {
		return bad("hostname %q without a uts namespace would be the host's", spec.Hostname)
	}
	if len(l.TimeOffsets) > 0 && !seen[oci.TimeNamespace] {
		return bad("linux.timeOffsets without a time namespace")
	}
	for k := range l.Sysctl {
		needs, err := SysctlNamespace(k)
		if err != nil {
			return bad("linux: %w", err)
		}
		if !seen[needs] {
			return bad("linux: sysctl %q without a %s namespace would change the host's", k, needs)
		}
	}
	if spec.Domainname != "" && !seen[oci.UTSNamespace] {
		return bad("domainname %q without a uts namespace would be the host's", spec.Domainname)
	}
	for clock := range l.TimeOffsets {
		if clock != "monotonic" && clock != "boottime" {
			return bad("linux.timeOffsets: clock %q is not known", clock)
		}
	}
	for _, p := range append(append([]string{}, l.MaskedPaths...), l.ReadonlyPaths...) {
		if !path.IsAbs(p) {
			return bad("linux.maskedPaths and readonlyPaths: %q is not absolute", p)
		}
	}
	for _, d := range l.Devices {
		if !path.IsAbs(d.Path) || path.Clean(d.Path) == "/" {
			return bad("linux.devices: path %q is not an absolute path of a file", d.Path)
		}
	}
	if err := validateNetDevices(l, seen[oci.NetworkNamespace]); err != nil {
		return bad("%w", err)
	}
	if err := validateRdt(l.IntelRdt); err != nil {
		return bad("%w", err)
	}
	return nil
}

// validateNamespaces returns the kinds that the container has of its own or joins.
func validateNamespaces(l *oci.Linux, bad func(string, ...any) error) (map[oci.LinuxNamespaceType]bool, error) {
	seen := make(map[oci.LinuxNamespaceType]bool)
	for _, n := range l.Namespaces {
		known := false
		for _, f := range namespaceFlags {
			known = known || f.kind == n.Type
		}
		switch {
		case !known:
			return nil, bad("linux.namespaces: type %q is not known", n.Type)
		case seen[n.Type]:
			return nil, bad("linux.namespaces: %s occurs twice", n.Type)
		case n.Path != "" && !path.IsAbs(n.Path):
			return nil, bad("linux.namespaces: path %q is not absolute", n.Path)
		}
		seen[n.Type] = true
	}
	return seen, nil
}
