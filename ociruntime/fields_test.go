package ociruntime

import (
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"hull/oci"
	"hull/seccomp"
)

// fieldReaders name, for every field of config.json, the file that acts on it; a field that is
// not here is read where the nearest one above it is. "-" is for what is passed over, which
// docs/conformance.md must say.
var fieldReaders = map[string]string{
	"ociVersion":  "validate.go",
	"annotations": "container.go",
	"hostname":    "compile_names.go",
	"domainname":  "compile_names.go",
	"hooks":       "container_hooks.go",
	"root":        "compile_root.go",

	"process":                 "compile_process.go",
	"process.terminal":        "compile_terminal.go",
	"process.consoleSize":     "compile_terminal.go",
	"process.rlimits":         "compile_names.go",
	"process.apparmorProfile": "compile_names.go",
	"process.selinuxLabel":    "compile_names.go",
	"process.oomScoreAdj":     "compile_names.go",
	"process.scheduler":       "compile_schedule.go",
	"process.ioPriority":      "compile_schedule.go",
	"process.execCPUAffinity": "join.go",
	"process.commandLine":     "-",
	"process.user.username":   "-",

	"mounts":             "compile_mounts.go",
	"mounts.options":     "mountopts.go",
	"mounts.uidMappings": "container_userns.go",
	"mounts.gidMappings": "container_userns.go",

	"linux":                   "compile.go",
	"linux.uidMappings":       "container_userns.go",
	"linux.gidMappings":       "container_userns.go",
	"linux.sysctl":            "compile_names.go",
	"linux.cgroupsPath":       "container_groups.go",
	"linux.namespaces":        "compile_namespaces.go",
	"linux.devices":           "compile_devices.go",
	"linux.netDevices":        "container_netdevices.go",
	"linux.rootfsPropagation": "compile_root.go",
	"linux.maskedPaths":       "compile_masks.go",
	"linux.readonlyPaths":     "compile_masks.go",
	"linux.mountLabel":        "compile_root.go",
	"linux.intelRdt":          "container_rdt.go",
	"linux.memoryPolicy":      "compile_schedule.go",
	"linux.personality":       "compile_names.go",
	"linux.timeOffsets":       "compile_namespaces.go",

	"linux.seccomp":                        "../seccomp/compile.go",
	"linux.seccomp.listenerPath":           "container_seccomp.go",
	"linux.seccomp.listenerMetadata":       "container_seccomp.go",
	"linux.seccomp.syscalls.args.index":    "../seccomp/assemble.go",
	"linux.seccomp.syscalls.args.value":    "../seccomp/assemble.go",
	"linux.seccomp.syscalls.args.valueTwo": "../seccomp/assemble.go",
	"linux.seccomp.syscalls.args.op":       "../seccomp/assemble.go",
	"linux.resources":                      "../cgroup/settings.go",
	"linux.resources.devices.allow":        "../cgroup/devices.go",
	"linux.resources.devices.type":         "../cgroup/devices.go",
	"linux.resources.devices.major":        "../cgroup/devices.go",
	"linux.resources.devices.minor":        "../cgroup/devices.go",
	"linux.resources.devices.access":       "../cgroup/devices.go",
	"linux.resources.memory.kernel":        "-",
	"linux.resources.memory.useHierarchy":  "-",

	"solaris": "-", "windows": "-", "vm": "-", "zos": "-", "freebsd": "-",
}

// element is what a pointer, list or map is of.
func element(ty reflect.Type) reflect.Type {
	for ty.Kind() == reflect.Pointer || ty.Kind() == reflect.Slice || ty.Kind() == reflect.Map {
		ty = ty.Elem()
	}
	return ty
}

func leaf(ty reflect.Type) bool { return element(ty).Kind() != reflect.Struct }

// Every field is read by a part of the runtime, or said to be passed over.
func TestEveryFieldIsRead(t *testing.T) {
	docs, err := os.ReadFile("../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	used := make(map[string]bool)
	sources := make(map[string]string)
	var walk func(ty reflect.Type, path, reader string)
	walk = func(ty reflect.Type, path, reader string) {
		ty = element(ty)
		for i := range ty.NumField() {
			f := ty.Field(i)
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous && tag == "" {
				walk(f.Type, path, reader)
				continue
			}
			p, r := strings.TrimPrefix(path+"."+tag, "."), reader
			if own, ok := fieldReaders[p]; ok {
				used[p], r = true, own
			}
			if r == "-" {
				if !strings.Contains(string(docs), "`"+p+"`") {
					t.Errorf("%s is passed over, and docs/conformance.md does not say so", p)
				}
				continue
			}
			if !leaf(f.Type) {
				walk(f.Type, p, r)
				continue
			}
			if sources[r] == "" {
				data, err := os.ReadFile(r)
				if err != nil {
					t.Errorf("%s: nobody is named who reads it: %v", p, err)
					continue
				}
				sources[r] = string(data)
			}
			if !regexp.MustCompile(`\.` + f.Name + `\b`).MatchString(sources[r]) {
				t.Errorf("%s: %s does not read .%s", p, r, f.Name)
			}
		}
	}
	walk(reflect.TypeFor[oci.Spec](), "", "")
	for p := range fieldReaders {
		if !used[p] {
			t.Errorf("%s is no field of config.json", p)
		}
	}
}

func compiles(t *testing.T, what string, p *oci.LinuxSeccomp) {
	t.Helper()
	if _, err := seccomp.Compile(p, runtime.GOARCH); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// Every value of a list that features prints is one that a configuration may have.
func TestFeaturesAreTrue(t *testing.T) {
	f := Features()
	for _, kind := range f.Linux.Namespaces {
		known := false
		for _, n := range namespaceFlags {
			known = known || string(n.kind) == kind
		}
		if !known {
			t.Errorf("namespace %s", kind)
		}
	}
	if _, err := capabilityBits(f.Linux.Capabilities); err != nil {
		t.Error(err)
	}
	for _, flag := range f.Linux.MemoryPolicy.Flags {
		if _, err := memoryFlags.lookup("flag", flag); err != nil {
			t.Error(err)
		}
	}
	s := f.Linux.Seccomp
	for _, action := range s.Actions {
		errno := uint(1)
		p := &oci.LinuxSeccomp{DefaultAction: "SCMP_ACT_ALLOW", ListenerPath: "/agent", Syscalls: []oci.LinuxSyscall{{Names: []string{"getcwd"}, Action: oci.LinuxSeccompAction(action)}}}
		if action == "SCMP_ACT_ERRNO" || action == "SCMP_ACT_TRACE" {
			p.Syscalls[0].ErrnoRet = &errno
		}
		compiles(t, "action "+action, p)
	}
	for _, op := range s.Operators {
		compiles(t, "operator "+op, &oci.LinuxSeccomp{DefaultAction: "SCMP_ACT_ERRNO", Syscalls: []oci.LinuxSyscall{{Names: []string{"getcwd"}, Action: "SCMP_ACT_ALLOW",
			Args: []oci.LinuxSeccompArg{{Index: 1, Value: 7, ValueTwo: 7, Op: oci.LinuxSeccompOperator(op)}}}}})
	}
	for _, arch := range s.Archs {
		compiles(t, "architecture "+arch, &oci.LinuxSeccomp{DefaultAction: "SCMP_ACT_ERRNO", Architectures: []specs.Arch{specs.Arch(arch)}})
	}
	for _, flag := range s.SupportedFlags {
		if !slices.Contains(s.KnownFlags, flag) {
			t.Errorf("flag %s is supported and not known", flag)
		}
		compiles(t, "flag "+flag, &oci.LinuxSeccomp{DefaultAction: "SCMP_ACT_ERRNO", Flags: []oci.LinuxSeccompFlag{oci.LinuxSeccompFlag(flag)}, ListenerPath: "/agent",
			Syscalls: []oci.LinuxSyscall{{Names: []string{"getcwd"}, Action: "SCMP_ACT_NOTIFY"}}})
	}
	for _, hook := range f.Hooks {
		if !slices.ContainsFunc(reflect.VisibleFields(reflect.TypeFor[oci.Hooks]()), func(f reflect.StructField) bool {
			return strings.HasPrefix(f.Tag.Get("json"), hook+",")
		}) {
			t.Errorf("hook %s", hook)
		}
	}
}
