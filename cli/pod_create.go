package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"hull/command"
	"hull/engine"
)

// podFlags are the flags of pod create, and most of those of pod clone. What
// is said of the infra container is kept as for a container.
type podFlags struct {
	c            createFlags
	o            engine.PodOptions
	infra        bool
	infraCommand string
	share        string
	shareParent  bool
	swap         string
	publish      []string
	networks     []string
	labels       []string
	labelFiles   []string
	idFile       string
}

// declare declares the flags that create and clone share.
func (p *podFlags) declare(f *command.Flags) {
	in := &p.c.o
	r := &p.o.Resources
	f.StringVar(&p.o.CgroupParent, "cgroup-parent", "", "Optional parent cgroup for the pod")
	f.Uint64VarP(&r.CPUShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	f.Float64Var(&r.CPUs, "cpus", 0, "Number of CPUs. The default is 0.000 which means no limit")
	f.StringVar(&r.CPUSetCPUs, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	f.StringVar(&r.CPUSetMems, "cpuset-mems", "", "Memory nodes (MEMs) in which to allow execution (0-3, 0,1). Only effective on NUMA systems.")
	f.Bytes(&r.Memory, "memory", "m", "Memory limit")
	f.StringVar(&p.swap, "memory-swap", "", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap")
	declareBlockLimits(f, r)
	f.StringSliceVar(&in.GPUs, "gpus", nil, `GPU devices to add to the pod ("all" to pass all GPUs)`)
	f.Func("device", "", "strings", "Add a host device to the pod's containers", commaList(func(s string) error {
		d, err := engine.ParseDevice(s)
		in.Devices = append(in.Devices, d)
		return err
	}))
	f.StringSliceVar(&in.UIDMap, "uidmap", nil, "UID map to use for the user namespace")
	f.StringSliceVar(&in.GIDMap, "gidmap", nil, "GID map to use for the user namespace")
	f.StringVar(&in.SubUIDName, "subuidname", "", "Name of range listed in /etc/subuid for use in user namespace")
	f.StringVar(&in.SubGIDName, "subgidname", "", "Name of range listed in /etc/subgid for use in user namespace")
	f.StringVar(&in.UserNS, "userns", "", "User namespace to use")
	f.StringVar(&in.PidNS, "pid", "", "PID namespace to use")
	f.StringVar(&in.UtsNS, "uts", "", "UTS namespace to use")
	f.StringVarP(&in.Hostname, "hostname", "h", "", "Set the pod's hostname")
	f.StringVar(&p.infraCommand, "infra-command", "", "Overwrite the default ENTRYPOINT of the infra image")
	f.StringVar(&in.ConmonPidFile, "infra-conmon-pidfile", "", "Path to the file that will receive the process ID of the infra container's monitor")
	f.StringVar(&in.Name, "infra-name", "", "Assign a name to the infra container")
	f.StringArrayVarP(&p.labels, "label", "l", nil, "Set metadata on pod")
	f.StringSliceVar(&p.labelFiles, "label-file", nil, "Read in a line delimited file of labels")
	f.StringVarP(&p.o.Name, "name", "n", "", "Assign a name to the pod")
	f.StringVar(&p.o.Restart, "restart", "", `Restart policy of the pod's containers that say none ("always"|"no"|"on-failure"|"unless-stopped")`)
	f.StringArrayVar(&in.SecurityOpt, "security-opt", nil, "Security Options")
	f.Bytes(&in.ShmSize, "shm-size", "", "Size of /dev/shm (default 65536k)")
	f.Bytes(&in.ShmSizeSystemd, "shm-size-systemd", "", "Size of systemd specific tmpfs mounts (/run, /run/lock)")
	f.StringSliceVar(&in.Sysctls, "sysctl", nil, "Sysctl options")
	f.Func("volume", "v", "stringArray", "Bind mount a volume into the pod's containers", func(s string) error {
		m, err := engine.ParseVolume(s)
		in.Mounts = append(in.Mounts, m)
		return err
	})
	f.StringArrayVar(&in.VolumesFrom, "volumes-from", nil, "Mount volumes from the specified container(s)")
	f.Words("restart", "always", "no", "on-failure", "unless-stopped")
	f.Words("userns", "host", "auto", "keep-id", "nomap")
	f.Words("pid", "host", "private")
	f.Words("uts", "host", "private")
	f.Words("security-opt", "apparmor=", "label=", "no-new-privileges", "seccomp=")
}

// declareNetwork declares what is said of the pod's network.
func (p *podFlags) declareNetwork(f *command.Flags) {
	in := &p.c.o
	f.StringSliceVar(&in.AddHosts, "add-host", nil, "Add a custom host-to-IP mapping (host:ip)")
	f.StringSliceVar(&in.DNS, "dns", nil, "Set custom DNS servers")
	f.StringSliceVar(&in.DNSOptions, "dns-option", nil, "Set custom DNS options")
	f.StringSliceVar(&in.DNSSearch, "dns-search", nil, "Set custom DNS search domains")
	f.StringVar(&in.HostsFile, "hosts-file", "", `Base file to create the /etc/hosts file, or one of the special values ("image"|"none")`)
	f.StringVar(&in.IP, "ip", "", "Specify a static IPv4 address for the pod")
	f.StringVar(&in.IP6, "ip6", "", "Specify a static IPv6 address for the pod")
	f.StringVar(&in.MAC, "mac-address", "", "Pod MAC address (e.g. 92:d0:c6:0a:29:33)")
	f.StringArrayVar(&p.networks, "network", nil, "Connect the pod to a network")
	f.StringSliceVar(&in.NetworkAliases, "network-alias", nil, "Add network-scoped alias for the pod")
	f.BoolVar(&in.NoHostname, "no-hostname", false, "Do not create /etc/hostname within the containers, instead use the version from the image")
	f.BoolVar(&in.NoHosts, "no-hosts", false, "Do not create /etc/hosts within the containers, instead use the version from the image")
	f.StringSliceVarP(&p.publish, "publish", "p", nil, "Publish a pod's port, or a range of ports, to the host")
	f.Alias("net", "network")
	f.Alias("dns-opt", "dns-option")
}

// declarePod declares what only a new pod has.
func (p *podFlags) declarePod(f *command.Flags) {
	f.StringVar(&p.o.ExitPolicy, "exit-policy", "continue", `Behaviour when the last container exits ("continue"|"stop")`)
	f.BoolVar(&p.infra, "infra", true, "Create an infra container associated with the pod to share namespaces with")
	f.StringVar(&p.c.o.Image, "infra-image", "", "Image to use instead of the built-in infra process")
	f.StringVar(&p.idFile, "pod-id-file", "", "Write the pod ID to the file")
	f.BoolVar(&p.o.Replace, "replace", false, "If a pod with the same name exists, replace it")
	f.StringVar(&p.share, "share", "ipc,net,uts", "A comma delimited list of kernel namespaces the pod will share")
	f.BoolVar(&p.shareParent, "share-parent", true, "Set the pod's cgroup as the cgroup parent for all containers joining the pod")
	f.Words("exit-policy", "continue", "stop")
	f.Words("share", "cgroup", "ipc", "net", "pid", "user", "uts", "none")
}

// options turns the parsed flags into what the engine is asked for.
func (p *podFlags) options(argv []string) (engine.PodOptions, error) {
	o := p.o
	o.CreateCommand = argv
	o.Infra = p.c.o
	if err := setMemory(&o.Resources, p.swap, -1); err != nil {
		return o, err
	}
	p.c.networks, p.c.publish = p.networks, p.publish
	if err := p.c.setNetwork(&o.Infra); err != nil {
		return o, err
	}
	if p.infraCommand != "" {
		words := strings.Fields(p.infraCommand)
		o.Infra.Entrypoint = &words
	}
	var labels []string
	for _, path := range p.labelFiles {
		lines, err := readLines(path)
		if err != nil {
			return o, fmt.Errorf("read --label-file: %w", err)
		}
		labels = append(labels, lines...)
	}
	var err error
	o.Labels, err = pairs("label", append(labels, p.labels...), true)
	return o, err
}

func (s *session) podCreate() *command.Command {
	var p podFlags
	return &command.Command{
		Usage: "[options] [NAME]",
		Long: "Creates an empty pod and prints its ID. Its containers share namespaces, which an infra container holds: a process of a few\n" +
			"kilobytes that needs no image. The pod starts with its first container, or by pod start.",
		Examples: []string{"pod create", "pod create --name wp_pod --publish 8080:80", "pod create --label foo=bar mypod"},
		Args:     command.AtMost(1),
		Flags: func(f *command.Flags) {
			p.declare(f)
			p.declareNetwork(f)
			p.declarePod(f)
		},
		Run: func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				if p.o.Name != "" && p.o.Name != args[0] {
					return fmt.Errorf("cannot specify two names %s and %s: invalid argument", args[0], p.o.Name)
				}
				p.o.Name = args[0]
			}
			o, err := p.options(s.commandLine())
			if err != nil {
				return err
			}
			o.NoInfra, o.NoShareParent = !p.infra, !p.shareParent
			if p.share != "ipc,net,uts" {
				o.Share = strings.Split(p.share, ",")
			}
			if err := freePodFile(p.idFile); err != nil {
				return err
			}
			e, err := s.openPulling(ctx, p.c.pull)
			if err != nil {
				return err
			}
			id, err := e.PodCreate(ctx, o)
			if err != nil {
				return err
			}
			if p.idFile != "" {
				if err := os.WriteFile(p.idFile, []byte(id), 0o644); err != nil {
					return fmt.Errorf("write pod id file: %w", err)
				}
			}
			fmt.Fprintln(s.stdout, id)
			return nil
		},
	}
}

// freePodFile refuses a pod ID file that is there.
func freePodFile(path string) error {
	if path == "" {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("pod-id-file %s exists. Ensure another pod is not using it or delete the file", path)
	}
	return nil
}

// readPodFiles adds the pods whose IDs are in files.
func readPodFiles(args, files []string) ([]string, error) {
	for _, path := range files {
		lines, err := readLines(path)
		if err != nil {
			return nil, fmt.Errorf("read pod id file: %w", err)
		}
		if len(lines) == 0 {
			return nil, fmt.Errorf("read pod id file %s: it is empty", path)
		}
		args = append(args, lines[0])
	}
	return args, nil
}

func (s *session) podClone() *command.Command {
	var p podFlags
	var o engine.PodCloneOptions
	return &command.Command{
		Usage:    "[options] POD NAME",
		Long:     "Creates an exact copy of a pod and the containers within it. What is said here replaces what was said of the original.",
		Examples: []string{"pod clone pod_name new_name", "pod clone --start --destroy pod_name"},
		Args:     command.Between(1, 2),
		Complete: s.completePods,
		Flags: func(f *command.Flags) {
			p.declare(f)
			f.BoolVar(&o.Destroy, "destroy", false, "Destroy the original pod")
			f.BoolVar(&o.Start, "start", false, "Start the new pod")
		},
		Run: func(ctx context.Context, args []string) error {
			if len(args) > 1 {
				if p.o.Name != "" {
					return errors.New("give the new name once: by --name or as the second argument")
				}
				p.o.Name = args[1]
			}
			said, err := p.options(s.commandLine())
			if err != nil {
				return err
			}
			o.Said = said
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			id, err := e.PodClone(ctx, args[0], o)
			if id != "" {
				fmt.Fprintln(s.stdout, id)
			}
			return err
		},
	}
}
