package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hull/command"
	"hull/engine"
	"hull/network"
)

// createFlags are the flags of run and create. Most write straight into the
// options; the fields here are those that need the others, or the arguments,
// to be understood.
type createFlags struct {
	o    engine.CreateOptions
	pull pullFlags

	entrypoint               *string
	envFiles, labelFiles     []string
	env                      []string
	labels, annotations      []string
	networks, publish        []string
	imageVolume              string
	arch, os, variant        string
	swappiness               int64
	podIDFile                string
	rootfs                   bool
	health                   healthFlags
	preserveFDs              uint
	passwd, readOnlyTmpfs    bool
	attach                   []string
	memorySwap               string
	dockerCreatesBindSources bool
}

// declare declares the flags; those of run alone are declared by run.
func (c *createFlags) declare(f *command.Flags) {
	c.declareIdentity(f)
	c.declareProcess(f)
	c.declareEnvironment(f)
	c.declareNamespaces(f)
	c.declareNetwork(f)
	c.declareStorage(f)
	c.declareSecurity(f)
	c.declareLimits(f)
	c.declareImage(f)
	c.health.declare(f)
}

func (c *createFlags) declareIdentity(f *command.Flags) {
	o := &c.o
	f.StringVar(&o.Name, "name", "", "Assign a name to the container")
	f.StringVar(&o.Pod, "pod", "", "Run container in an existing pod, or with new:NAME in a new one")
	f.StringVar(&c.podIDFile, "pod-id-file", "", "Read the pod ID from the file")
	f.BoolVar(&o.Replace, "replace", false, "If a container with the same name exists, replace it")
	f.StringVar(&o.CIDFile, "cidfile", "", "Write the container ID to the file")
	f.StringVar(&o.PidFile, "pidfile", "", "Write the container process ID to the file")
	f.StringVar(&o.ConmonPidFile, "conmon-pidfile", "", "Write the process ID of the container's monitor to the file")
	f.StringArrayVarP(&c.labels, "label", "l", nil, "Set metadata on container")
	f.StringSliceVar(&c.labelFiles, "label-file", nil, "Read in a line delimited file of labels")
	f.StringArrayVar(&c.annotations, "annotation", nil, "Add annotations to container (key=value)")
	f.StringSliceVar(&o.Requires, "requires", nil, "Add one or more requirement containers that must be started before this container will start")
	f.BoolVar(&o.AutoRemove, "rm", false, "Remove container after exit")
	f.StringVar(&o.Restart, "restart", "", `Restart policy to apply when a container exits ("always"|"no"|"on-failure"|"unless-stopped")`)
	f.StringVar(&o.SdNotify, "sdnotify", "container", `Control sd-notify behavior ("container"|"conmon"|"healthy"|"ignore")`)
	f.StringVar(&o.LogDriver, "log-driver", "", `Logging driver for the container ("k8s-file"|"json-file"|"journald"|"none"|"passthrough"|"passthrough-tty")`)
	f.StringSliceVar(&o.LogOpts, "log-opt", nil, "Logging driver options")
	f.Words("restart", "always", "no", "on-failure", "unless-stopped")
	f.Words("sdnotify", "container", "conmon", "healthy", "ignore")
	f.Words("log-driver", "k8s-file", "json-file", "journald", "none", "passthrough", "passthrough-tty")
	f.Words("log-opt", "path=", "max-size=", "max-file=", "tag=")
}

func (c *createFlags) declareProcess(f *command.Flags) {
	o := &c.o
	command.Optional(f, &c.entrypoint, "entrypoint", "", "string", "Overwrite the default ENTRYPOINT of the image", asIs)
	f.StringVarP(&o.WorkingDir, "workdir", "w", "", "Working directory inside the container")
	f.StringVarP(&o.User, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	f.StringSliceVar(&o.GroupAdd, "group-add", nil, "Add additional groups to the primary container process. 'keep-groups' allows container processes to use supplementary groups.")
	f.StringVar(&o.Umask, "umask", "", `Set umask in container (default "0022")`)
	f.BoolVar(&c.passwd, "passwd", true, "Add entries to /etc/passwd and /etc/group")
	f.StringVar(&o.PasswdEntry, "passwd-entry", "", "Entry to write to /etc/passwd")
	f.StringVar(&o.GroupEntry, "group-entry", "", "Entry to write to /etc/group")
	f.StringSliceVar(&o.HostUsers, "hostuser", nil, "Host user account to add to /etc/passwd within container")
	f.BoolVarP(&o.Terminal, "tty", "t", false, "Allocate a pseudo-TTY for container")
	f.BoolVarP(&o.Interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
	f.StringSliceVarP(&c.attach, "attach", "a", nil, "Attach to STDIN, STDOUT or STDERR")
	f.StringVar(&o.StopSignal, "stop-signal", "", "Signal to stop a container. Default is SIGTERM")
	command.Optional(f, &o.StopTimeout, "stop-timeout", "", "uint", "Timeout (in seconds) that containers stopped by user command have to exit. If exceeded, the container will be forcibly stopped via SIGKILL. (default 10)", parseUint)
	f.UintVar(&o.Timeout, "timeout", 0, "Maximum length of time a container is allowed to run. The container will be killed automatically after the time expires.")
	f.BoolVar(&o.Init, "init", false, "Run an init binary inside the container that forwards signals and reaps processes")
	f.StringVar(&o.InitPath, "init-path", "", "Path to the container-init binary")
	f.StringVar(&o.Systemd, "systemd", "true", `Run container in systemd mode ("true"|"false"|"always")`)
	f.StringVar(&o.Timezone, "tz", "", "Set timezone in container")
	f.StringVar(&o.Personality, "personality", "", "Configure execution domain using personality (e.g., LINUX/LINUX32)")
	f.Words("attach", "stdin", "stdout", "stderr")
	f.Words("systemd", "true", "false", "always")
	f.Words("personality", "LINUX", "LINUX32")
}

func (c *createFlags) declareEnvironment(f *command.Flags) {
	o := &c.o
	f.StringArrayVarP(&c.env, "env", "e", nil, "Set environment variables in container")
	f.StringArrayVar(&c.envFiles, "env-file", nil, "Read in a file of environment variables")
	f.BoolVar(&o.EnvHost, "env-host", false, "Use all current host environment variables in container")
	f.StringArrayVar(&o.EnvMerge, "env-merge", nil, "Preprocess environment variables from image before injecting them into the container")
	f.StringArrayVar(&o.UnsetEnv, "unsetenv", nil, "Unset environment default variables in container")
	f.BoolVar(&o.UnsetEnvAll, "unsetenv-all", false, "Unset all default environment variables in container")
	f.BoolVar(&o.HTTPProxy, "http-proxy", true, "Set proxy environment variables in the container based on the host proxy vars")
}

func (c *createFlags) declareNamespaces(f *command.Flags) {
	o := &c.o
	f.StringVarP(&o.Hostname, "hostname", "h", "", "Set container hostname")
	f.StringVar(&o.Domainname, "domainname", "", "Set the NIS domain name of the container")
	f.BoolVar(&o.NoHostname, "no-hostname", false, "Do not create /etc/hostname within the container, instead use the version from the image")
	f.StringVar(&o.PidNS, "pid", "", "PID namespace to use")
	f.StringVar(&o.IpcNS, "ipc", "", "IPC namespace to use")
	f.StringVar(&o.UtsNS, "uts", "", "UTS namespace to use")
	f.StringVar(&o.CgroupNS, "cgroupns", "", "cgroup namespace to use")
	f.StringVar(&o.UserNS, "userns", "", "User namespace to use")
	f.StringSliceVar(&o.UIDMap, "uidmap", nil, "UID map to use for the user namespace")
	f.StringSliceVar(&o.GIDMap, "gidmap", nil, "GID map to use for the user namespace")
	f.StringVar(&o.SubUIDName, "subuidname", "", "Name of range listed in /etc/subuid for use in user namespace")
	f.StringVar(&o.SubGIDName, "subgidname", "", "Name of range listed in /etc/subgid for use in user namespace")
	f.Words("pid", "host", "private", "container:", "ns:")
	f.Words("ipc", "host", "private", "shareable", "none", "container:", "ns:")
	f.Words("uts", "host", "private", "container:", "ns:")
	f.Words("cgroupns", "host", "private", "container:", "ns:")
	f.Words("userns", "host", "auto", "keep-id", "nomap", "container:", "ns:")
}

func (c *createFlags) declareNetwork(f *command.Flags) {
	o := &c.o
	f.StringArrayVar(&c.networks, "network", nil, "Connect a container to a network")
	f.StringSliceVar(&o.NetworkAliases, "network-alias", nil, "Add network-scoped alias for the container")
	f.StringVar(&o.IP, "ip", "", "Specify a static IPv4 address for the container")
	f.StringVar(&o.IP6, "ip6", "", "Specify a static IPv6 address for the container")
	f.StringVar(&o.MAC, "mac-address", "", "Container MAC address (e.g. 92:d0:c6:0a:29:33)")
	f.StringSliceVarP(&c.publish, "publish", "p", nil, "Publish a container's port, or a range of ports, to the host")
	f.BoolVarP(&o.PublishAll, "publish-all", "P", false, "Publish all exposed ports to random ports on the host interface")
	f.StringSliceVar(&o.Expose, "expose", nil, "Expose a port or a range of ports")
	f.StringSliceVar(&o.DNS, "dns", nil, "Set custom DNS servers")
	f.StringSliceVar(&o.DNSSearch, "dns-search", nil, "Set custom DNS search domains")
	f.StringSliceVar(&o.DNSOptions, "dns-option", nil, "Set custom DNS options")
	f.StringSliceVar(&o.AddHosts, "add-host", nil, "Add a custom host-to-IP mapping (host:ip)")
	f.StringVar(&o.HostsFile, "hosts-file", "", `Base file to create the /etc/hosts file inside the container, or one of the special values ("image"|"none")`)
	f.BoolVar(&o.NoHosts, "no-hosts", false, "Do not create /etc/hosts within the container, instead use the version from the image")
	f.Alias("net", "network")
	f.Alias("dns-opt", "dns-option")
}

func (c *createFlags) declareStorage(f *command.Flags) {
	o := &c.o
	mount := func(parse func(string) (engine.Mount, error)) func(string) error {
		return func(s string) error {
			m, err := parse(s)
			if err != nil {
				return err
			}
			m.CreateSource = m.CreateSource || c.dockerCreatesBindSources && m.Type == "bind"
			o.Mounts = append(o.Mounts, m)
			return nil
		}
	}
	f.Func("volume", "v", "stringArray", "Bind mount a volume into the container", mount(engine.ParseVolume))
	f.Func("tmpfs", "", "tmpfs", "Mount a temporary filesystem (tmpfs) into a container", mount(engine.ParseTmpfs))
	f.Func("mount", "", "stringArray", "Attach a filesystem mount to the container", func(s string) error {
		m, err := engine.ParseMount(s)
		o.Mounts = append(o.Mounts, m)
		return err
	})
	f.StringArrayVar(&o.VolumesFrom, "volumes-from", nil, "Mount volumes from the specified container(s)")
	f.StringVar(&c.imageVolume, "image-volume", "anonymous", `How the image's own volumes are made ("anonymous"|"bind"|"tmpfs"|"ignore")`)
	f.Func("secret", "", "stringArray", "Add secret to container", func(s string) error {
		v, err := engine.ParseSecret(s)
		o.Secrets = append(o.Secrets, v)
		return err
	})
	f.BoolVar(&o.ReadOnly, "read-only", false, "Make containers root filesystem read-only")
	f.BoolVar(&c.readOnlyTmpfs, "read-only-tmpfs", true, "When running --read-only containers mount read-write tmpfs on /dev, /dev/shm, /run, /tmp and /var/tmp")
	f.Bytes(&o.ShmSize, "shm-size", "", "Size of /dev/shm (default 65536k)")
	f.Bytes(&o.ShmSizeSystemd, "shm-size-systemd", "", "Size of systemd specific tmpfs mounts (/run, /run/lock)")
	f.StringArrayVar(&o.StorageOpts, "storage-opt", nil, "Storage options of the container (size=)")
	f.StringSliceVar(&o.ChrootDirs, "chrootdirs", nil, "Chroot directories inside the container")
	f.Words("image-volume", "anonymous", "bind", "tmpfs", "ignore")
	f.Words("mount", "type=bind,", "type=volume,", "type=tmpfs,", "type=image,", "type=artifact,", "type=devpts,", "type=ramfs,", "type=glob,")
}

func (c *createFlags) declareSecurity(f *command.Flags) {
	o := &c.o
	f.BoolVar(&o.Privileged, "privileged", false, "Give extended privileges to container")
	f.StringSliceVar(&o.CapAdd, "cap-add", nil, "Add capabilities to the container")
	f.StringSliceVar(&o.CapDrop, "cap-drop", nil, "Drop capabilities from the container")
	f.StringArrayVar(&o.SecurityOpt, "security-opt", nil, "Security Options")
	f.StringVar(&o.SeccompPolicy, "seccomp-policy", "", `Policy for selecting a seccomp profile ("default"|"image")`)
	f.Func("device", "", "strings", "Add a host device to the container", commaList(func(s string) error {
		d, err := engine.ParseDevice(s)
		o.Devices = append(o.Devices, d)
		return err
	}))
	f.StringSliceVar(&o.GPUs, "gpus", nil, `GPU devices to add to the container ("all" to pass all GPUs)`)
	f.StringSliceVar(&o.DeviceCgroupRules, "device-cgroup-rule", nil, "Add a rule to the cgroup allowed devices list")
	f.StringSliceVar(&o.Sysctls, "sysctl", nil, "Sysctl options")
	f.Func("ulimit", "", "strings", "Ulimit options", commaList(func(s string) error {
		u, err := engine.ParseUlimit(s)
		o.Ulimits = append(o.Ulimits, u)
		return err
	}))
	command.Optional(f, &o.OOMScoreAdj, "oom-score-adj", "", "int", "Tune the host's OOM preferences (-1000 to 1000)", strconv.Atoi)
	f.Words("seccomp-policy", "default", "image")
	f.Words("security-opt", "apparmor=", "label=", "mask=", "no-new-privileges", "proc-opts=", "seccomp=", "systempaths=", "unmask=")
	f.Words("cap-add", capabilityWords...)
	f.Words("cap-drop", capabilityWords...)
}

func (c *createFlags) declareLimits(f *command.Flags) {
	o := &c.o
	declareResources(f, &o.Resources, &c.memorySwap, &c.swappiness)
	f.BoolVar(&o.Resources.OOMKillDisable, "oom-kill-disable", false, "Disable OOM Killer")
	f.Func("cgroup-conf", "", "strings", "Configure cgroup v2 (key=value)", commaList(func(s string) error {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return fmt.Errorf("%q is not key=value", s)
		}
		if o.Resources.Unified == nil {
			o.Resources.Unified = map[string]string{}
		}
		o.Resources.Unified[k] = v
		return nil
	}))
	f.StringVar(&o.CgroupParent, "cgroup-parent", "", "Optional parent cgroup for the container")
	f.StringVar(&o.Cgroups, "cgroups", "enabled", `Control container cgroup configuration ("enabled"|"disabled"|"no-conmon"|"split")`)
	f.StringVar(&o.RdtClass, "rdt-class", "", "Class of Service (COS) that the container should be assigned to")
	f.Words("cgroups", "enabled", "disabled", "no-conmon", "split")
}

func (c *createFlags) declareImage(f *command.Flags) {
	o := &c.o
	f.StringVar(&o.Pull, "pull", "missing", `Pull image policy ("always"|"missing"|"never"|"newer")`)
	f.BoolVarP(&o.Quiet, "quiet", "q", false, "Suppress output information when pulling images")
	f.StringVar(&o.Platform, "platform", "", "Specify the platform for selecting the image.  (Conflicts with --arch and --os)")
	f.StringVar(&c.arch, "arch", "", "Use `ARCH` instead of the architecture of the machine for choosing images")
	f.StringVar(&c.os, "os", "", "Use `OS` instead of the running OS for choosing images")
	f.StringVar(&c.variant, "variant", "", "Use `VARIANT` instead of the running architecture variant for choosing images")
	f.BoolVar(&c.rootfs, "rootfs", false, "The first argument is not an image but the rootfs to the exploded container")
	f.Words("pull", "always", "missing", "never", "newer")
	f.Words("platform", "linux/amd64", "linux/arm64", "linux/arm/v7", "linux/riscv64", "linux/ppc64le", "linux/s390x")
	c.pull.declare(f)
}

// declareResources declares the limits that run, create, update and clone
// share.
func declareResources(f *command.Flags, r *engine.Resources, swap *string, swappiness *int64) {
	f.Bytes(&r.Memory, "memory", "m", "Memory limit")
	f.Bytes(&r.MemoryReservation, "memory-reservation", "", "Memory soft limit")
	f.StringVar(swap, "memory-swap", "", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap")
	f.Int64Var(swappiness, "memory-swappiness", -1, "Tune container memory swappiness (0 to 100, or -1 for system default)")
	f.Float64Var(&r.CPUs, "cpus", 0, "Number of CPUs. The default is 0.000 which means no limit")
	f.Uint64VarP(&r.CPUShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	f.Uint64Var(&r.CPUPeriod, "cpu-period", 0, "Limit the CPU CFS (Completely Fair Scheduler) period")
	f.Int64Var(&r.CPUQuota, "cpu-quota", 0, "Limit the CPU CFS (Completely Fair Scheduler) quota")
	f.Uint64Var(&r.CPURTPeriod, "cpu-rt-period", 0, "Limit the CPU real-time period in microseconds")
	f.Int64Var(&r.CPURTRuntime, "cpu-rt-runtime", 0, "Limit the CPU real-time runtime in microseconds")
	f.StringVar(&r.CPUSetCPUs, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	f.StringVar(&r.CPUSetMems, "cpuset-mems", "", "Memory nodes (MEMs) in which to allow execution (0-3, 0,1). Only effective on NUMA systems.")
	command.Optional(f, &r.PidsLimit, "pids-limit", "", "int", "Tune container pids limit (set -1 for unlimited) (default 2048)", parseInt64)
	declareBlockLimits(f, r)
	rateFlag(f, "device-read-iops", "Limit read rate (IO per second) from a device (e.g. --device-read-iops=/dev/sda:1000)", &r.DeviceReadIOps, false)
	rateFlag(f, "device-write-iops", "Limit write rate (IO per second) to a device (e.g. --device-write-iops=/dev/sda:1000)", &r.DeviceWriteIOps, false)
}

// declareBlockLimits declares those of them that pods have as well.
func declareBlockLimits(f *command.Flags, r *engine.Resources) {
	f.Uint16Var(&r.BlkioWeight, "blkio-weight", 0, "Block IO weight (relative weight) accepts a weight value between 10 and 1000.")
	f.Func("blkio-weight-device", "", "DEVICE_NAME:WEIGHT", "Block IO weight of a device", commaList(func(s string) error {
		w, err := engine.ParseWeight(s)
		r.BlkioWeightDevice = append(r.BlkioWeightDevice, w)
		return err
	}))
	rateFlag(f, "device-read-bps", "Limit read rate (bytes per second) from a device (e.g. --device-read-bps=/dev/sda:1mb)", &r.DeviceReadBps, true)
	rateFlag(f, "device-write-bps", "Limit write rate (bytes per second) to a device (e.g. --device-write-bps=/dev/sda:1mb)", &r.DeviceWriteBps, true)
}

// rateFlag declares a limit of DEVICE:RATE.
func rateFlag(f *command.Flags, name, usage string, to *[]engine.Rate, bytes bool) {
	f.Func(name, "", "strings", usage, commaList(func(s string) error {
		v, err := engine.ParseRate(s, bytes)
		*to = append(*to, v)
		return err
	}))
}

// setMemory fills what the text flags of declareResources say.
func setMemory(r *engine.Resources, swap string, swappiness int64) error {
	if swap != "" {
		n, err := engine.ParseSize(swap)
		if err != nil {
			return fmt.Errorf("invalid value for --memory-swap: %w", err)
		}
		r.MemorySwap = n
	}
	if swappiness < -1 || swappiness > 100 {
		return fmt.Errorf("invalid value: %d, valid memory swappiness range is 0-100", swappiness)
	}
	if swappiness >= 0 {
		r.MemorySwappiness = &swappiness
	}
	if r.BlkioWeight != 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		return errors.New("invalid value for --blkio-weight: must be between 10 and 1000")
	}
	if r.CPUs != 0 && (r.CPUQuota != 0 || r.CPUPeriod != 0) {
		return errors.New("--cpu-period and --cpus cannot be set together")
	}
	return nil
}

// commaList splits a value at commas, as podman's "strings" flags do.
func commaList(set func(string) error) func(string) error {
	return func(s string) error {
		for part := range strings.SplitSeq(s, ",") {
			if err := set(part); err != nil {
				return err
			}
		}
		return nil
	}
}

func parseUint(s string) (uint, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint(n), err
}

func parseInt64(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }

func asIs(s string) (string, error) { return s, nil }

// ports parses -p; a bad one is named.
func ports(specs []string) ([]engine.PortMapping, error) {
	if len(specs) == 0 {
		return nil, nil
	}
	return network.ParsePorts(specs)
}

// checkPull refuses words that are no pull policy. Docker's booleans are taken.
func checkPull(policy string) (string, error) {
	p := strings.ToLower(policy)
	switch p {
	case "true", "1":
		return "always", nil
	case "false", "0", "ifnotpresent":
		return "missing", nil
	}
	if !slices.Contains([]string{"always", "missing", "never", "newer"}, p) {
		return "", fmt.Errorf("unsupported pull policy %q", policy)
	}
	return p, nil
}

// capabilityWords complete --cap-add and --cap-drop.
var capabilityWords = []string{"all", "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE",
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE",
	"MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP",
	"SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT",
	"SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"}
