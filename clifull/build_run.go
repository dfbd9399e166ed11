package clifull

import (
	"fmt"
	"strings"

	"hull/build"
	"hull/command"
	"hull/engine"
)

// buildRunFlags are the flags of build that say how RUN is run.
type buildRunFlags struct {
	c         engine.CreateOptions
	isolation string
	networks  []string
	volumes   []string
	mounts    []string
	ulimits   []string
	devices   []string
	shm       string
	swap      string
	stdin     bool
	volumesC  bool
	uidMap    []string
	gidMap    []string

	ociRuntime          string
	runtimeFlags, hooks []string
}

func (r *buildRunFlags) declare(f *command.Flags) {
	c := &r.c
	f.StringArrayVar(&c.AddHosts, "add-host", nil, "Add a line to /etc/hosts: HOST:IP")
	f.StringSliceVar(&c.CapAdd, "cap-add", nil, "Capability that RUN has besides the usual ones")
	f.StringSliceVar(&c.CapDrop, "cap-drop", nil, "Capability that RUN shall not have")
	f.StringVar(&c.CgroupParent, "cgroup-parent", "", "Cgroup under which those of RUN are made")
	f.StringVar(&c.CgroupNS, "cgroupns", "", "Cgroup namespace of RUN: private or host")
	f.StringVar(&c.IpcNS, "ipc", "", "IPC namespace of RUN")
	f.StringVar(&c.PidNS, "pid", "", "PID namespace of RUN")
	f.StringVar(&c.UtsNS, "uts", "", "UTS namespace of RUN")
	f.StringVar(&c.UserNS, "userns", "", "User namespace of RUN")
	f.StringSliceVar(&r.uidMap, "userns-uid-map", nil, "User IDs of RUN: CONTAINER:HOST:SIZE")
	f.StringSliceVar(&r.gidMap, "userns-gid-map", nil, "Group IDs of RUN: CONTAINER:HOST:SIZE")
	f.StringVar(&c.SubUIDName, "userns-uid-map-user", "", "Name in /etc/subuid whose range is used")
	f.StringVar(&c.SubGIDName, "userns-gid-map-group", "", "Name in /etc/subgid whose range is used")
	f.StringSliceVar(&r.devices, "device", nil, "Device for RUN: HOST[:CONTAINER][:rwm]")
	f.StringSliceVar(&c.DNS, "dns", nil, "DNS server for RUN, or none")
	f.StringSliceVar(&c.DNSOptions, "dns-option", nil, "DNS option for RUN")
	f.StringSliceVar(&c.DNSSearch, "dns-search", nil, "DNS search domain for RUN")
	f.StringSliceVar(&c.GroupAdd, "group-add", nil, "Further group of RUN")
	f.BoolVar(&c.HTTPProxy, "http-proxy", true, "Pass the caller's proxy variables to RUN")
	f.Choice(&r.isolation, "isolation", "", "", "How RUN is isolated", "", "oci", "default", "rootless", "chroot")
	f.StringArrayVar(&r.networks, "network", nil, "Network of RUN: bridge, none, host, private or a name")
	f.Alias("net", "network")
	f.BoolVar(&c.NoHosts, "no-hosts", false, "Do not make /etc/hosts for RUN")
	f.BoolVar(&c.NoHostname, "no-hostname", false, "Do not make /etc/hostname for RUN")
	f.StringArrayVar(&c.SecurityOpt, "security-opt", nil, "Security option of RUN")
	f.StringVar(&r.shm, "shm-size", "", "Size of /dev/shm of RUN")
	f.StringArrayVar(&r.ulimits, "ulimit", nil, "Limit of RUN: NAME=SOFT[:HARD]")
	f.StringArrayVarP(&r.volumes, "volume", "v", nil, "Directory of the host for RUN: HOST:CONTAINER[:OPTIONS]")
	f.StringArrayVar(&r.mounts, "mount", nil, "Mount for RUN, as run --mount has it")
	f.BoolVar(&r.stdin, "stdin", false, "Pass standard input to RUN")
	f.BoolVar(&r.volumesC, "compat-volumes", false, "Throw away what RUN writes to directories that are VOLUMEs")
	f.StringVar(&r.ociRuntime, "runtime", "", "OCI runtime that runs RUN instead of hull's own: a name or a path")
	f.StringArrayVar(&r.runtimeFlags, "runtime-flag", nil, "Global flag, without its dashes, for that runtime")
	f.StringSliceVar(&r.hooks, "hooks-dir", nil, "Directory of OCI hooks for RUN")
	r.declareLimits(f)
}

func (r *buildRunFlags) declareLimits(f *command.Flags) {
	x := &r.c.Resources
	f.Uint64Var(&x.CPUPeriod, "cpu-period", 0, "CPU period of RUN, in microseconds")
	f.Int64Var(&x.CPUQuota, "cpu-quota", 0, "CPU quota of RUN, in microseconds")
	f.Uint64VarP(&x.CPUShares, "cpu-shares", "c", 0, "CPU shares of RUN")
	f.StringVar(&x.CPUSetCPUs, "cpuset-cpus", "", "CPUs that RUN may use")
	f.StringVar(&x.CPUSetMems, "cpuset-mems", "", "Memory nodes that RUN may use")
	f.Bytes(&x.Memory, "memory", "m", "Memory limit of RUN")
	f.StringVar(&r.swap, "memory-swap", "", "Limit of memory and swap of RUN; -1 is none")
}

// set fills in how RUN is run.
func (r *buildRunFlags) set(o *build.Options) error {
	c := r.c
	var err error
	if len(r.networks) > 0 {
		if c.NetworkMode, c.Networks, err = engine.ParseNetwork(r.networks); err != nil {
			return err
		}
		if c.NetworkMode == "default" {
			c.NetworkMode = ""
		}
	}
	if r.shm != "" {
		if c.ShmSize, err = engine.ParseSize(r.shm); err != nil {
			return fmt.Errorf("--shm-size: %w", err)
		}
	}
	if r.swap == "-1" {
		c.Resources.MemorySwap = -1
	} else if r.swap != "" {
		if c.Resources.MemorySwap, err = engine.ParseSize(r.swap); err != nil {
			return fmt.Errorf("--memory-swap: %w", err)
		}
	}
	if err := r.lists(&c); err != nil {
		return err
	}
	c.UIDMap, c.GIDMap = r.uidMap, r.gidMap
	o.Chroot = r.isolation == "chroot"
	o.Volumes = r.volumesC
	if r.stdin {
		o.Stdio = o.Stdin
	}
	o.Create = c
	return nil
}

func (r *buildRunFlags) lists(c *engine.CreateOptions) error {
	for _, u := range r.ulimits {
		x, err := engine.ParseUlimit(u)
		if err != nil {
			return err
		}
		c.Ulimits = append(c.Ulimits, x)
	}
	for _, d := range r.devices {
		x, err := engine.ParseDevice(d)
		if err != nil {
			return err
		}
		c.Devices = append(c.Devices, x)
	}
	for _, v := range r.volumes {
		m, err := engine.ParseVolume(v)
		if err != nil {
			return err
		}
		if m.Type != "bind" {
			return fmt.Errorf("--volume %s: a build mounts directories of the host: begin it with / or .", v)
		}
		c.Mounts = append(c.Mounts, m)
	}
	for _, m := range r.mounts {
		x, err := engine.ParseMount(m)
		if err != nil {
			return err
		}
		c.Mounts = append(c.Mounts, x)
	}
	for i, h := range c.AddHosts {
		// Docker's other spelling.
		c.AddHosts[i] = strings.Replace(h, "=", ":", 1)
	}
	return nil
}
