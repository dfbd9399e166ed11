package engine

import (
	"io"
	"os"
	"time"

	"hull/oci"
)

// CreateOptions is everything that can be said about a container before it
// exists: the first of the three forms (what the user said → runtime spec →
// plan). It is kept in the container's record as it was said, so that a start
// years later means the same. The zero value with an Image is a container of
// the image's own command in the default network.
//
// Values that have a grammar of their own arrive parsed: ParseVolume,
// ParseMount, ParseTmpfs, ParseDevice, ParseUlimit, ParseThrottle,
// ParseNetwork in this package and network.ParsePorts.
type CreateOptions struct {
	// Image is a name, an ID or a digest; empty only with Rootfs.
	Image string `json:",omitempty"`
	// Rootfs is a directory of the host that is used as it is; RootfsOverlay
	// puts a throw-away layer above it.
	Rootfs        string `json:",omitempty"`
	RootfsOverlay bool   `json:",omitempty"`
	// Pull is always, missing (also ""), never or newer; Platform is
	// os/arch[/variant], "" the host's.
	Pull     string `json:",omitempty"`
	Platform string `json:",omitempty"`
	Quiet    bool   `json:"-"` // no progress of a pull

	// Name is chosen when empty. Replace removes another of that name first.
	Name    string `json:",omitempty"`
	Replace bool   `json:"-"`

	// Pod is the name or ID of the pod to join, or new:NAME. InitCtr makes the
	// container one that runs to its end before the others: once, always.
	Pod     string `json:",omitempty"`
	InitCtr string `json:",omitempty"`
	// loose says that a container whose namespaces are joined may go all the same.
	loose bool
	// infraOf is the pod whose infra container this is to be.
	infraOf *podRecord

	// Command replaces the image's command; Entrypoint, when not nil, replaces
	// the image's entrypoint and drops its command.
	Command    []string  `json:",omitempty"`
	Entrypoint *[]string `json:",omitempty"`

	// Env are NAME=VALUE, NAME (the engine's own value, left out when unset),
	// or PREFIX* (all of the engine's that begin so). EnvFiles were read by
	// the front door and stand before Env in it.
	Env         []string `json:",omitempty"`
	EnvMerge    []string `json:",omitempty"` // NAME=text with ${OTHER} of the image's
	EnvHost     bool     `json:",omitempty"`
	UnsetEnv    []string `json:",omitempty"`
	UnsetEnvAll bool     `json:",omitempty"`
	// HTTPProxy passes the engine's proxy variables on.
	HTTPProxy bool `json:",omitempty"`

	Labels      map[string]string `json:",omitempty"`
	Annotations map[string]string `json:",omitempty"`

	WorkingDir string   `json:",omitempty"`
	User       string   `json:",omitempty"` // name|uid[:group|gid]
	GroupAdd   []string `json:",omitempty"` // names, ids, or keep-groups
	Umask      string   `json:",omitempty"` // octal; "" is 0022
	// Passwd, when not nil and false, leaves /etc/passwd and group alone.
	Passwd      *bool    `json:",omitempty"`
	PasswdEntry string   `json:",omitempty"`
	GroupEntry  string   `json:",omitempty"`
	HostUsers   []string `json:",omitempty"`

	Terminal    bool `json:",omitempty"`
	Interactive bool `json:",omitempty"` // standard input stays open
	// Attach lists the streams that run and create named: stdin, stdout, stderr.
	Attach []string `json:",omitempty"`
	// PreserveFDs are inherited files of the engine, 3 and up.
	PreserveFDs int   `json:",omitempty"`
	PreserveFD  []int `json:",omitempty"`

	AutoRemove      bool     `json:",omitempty"` // --rm
	AutoRemoveImage bool     `json:",omitempty"` // --rmi
	Restart         string   `json:",omitempty"` // no, always, on-failure[:N], unless-stopped
	StopSignal      string   `json:",omitempty"`
	StopTimeout     *uint    `json:",omitempty"` // seconds; nil is 10
	Timeout         uint     `json:",omitempty"` // seconds after which it is killed; 0 never
	Requires        []string `json:",omitempty"`
	PidFile         string   `json:",omitempty"`
	ConmonPidFile   string   `json:",omitempty"`
	CIDFile         string   `json:",omitempty"` // for inspect; the front door writes it
	SdNotify        string   `json:",omitempty"` // container (""), conmon, healthy, ignore

	Hostname   string `json:",omitempty"`
	Domainname string `json:",omitempty"`
	NoHostname bool   `json:",omitempty"`

	// Namespaces: "" default, private, host, none, container:NAME, ns:PATH,
	// shareable, slirp4netns, pasta… as far as each kind knows them.
	PidNS    string `json:",omitempty"`
	IpcNS    string `json:",omitempty"`
	UtsNS    string `json:",omitempty"`
	CgroupNS string `json:",omitempty"`
	// UserNS is "" or host, auto[:opts], keep-id[:uid=,gid=], nomap,
	// container:NAME, ns:PATH. UIDMap and GIDMap are CONTAINER:HOST:SIZE.
	UserNS     string   `json:",omitempty"`
	UIDMap     []string `json:",omitempty"`
	GIDMap     []string `json:",omitempty"`
	SubUIDName string   `json:",omitempty"`
	SubGIDName string   `json:",omitempty"`

	// NetworkMode is "" (the default network, or none when the engine's
	// configuration says so), bridge, none, host, container:NAME, ns:PATH,
	// private, pasta, slirp4netns; with Networks it is bridge.
	NetworkMode    string          `json:",omitempty"`
	Networks       []NetworkAttach `json:",omitempty"`
	NetworkAliases []string        `json:",omitempty"`
	IP, IP6        string          `json:",omitempty"`
	MAC            string          `json:",omitempty"`
	Publish        []PortMapping   `json:",omitempty"`
	PublishAll     bool            `json:",omitempty"`
	Expose         []string        `json:",omitempty"` // PORT[-PORT][/PROTO]
	DNS            []string        `json:",omitempty"`
	DNSSearch      []string        `json:",omitempty"`
	DNSOptions     []string        `json:",omitempty"`
	AddHosts       []string        `json:",omitempty"` // NAME[;NAME…]:IP|host-gateway
	HostsFile      string          `json:",omitempty"` // path, image, none
	NoHosts        bool            `json:",omitempty"`

	Mounts      []Mount  `json:",omitempty"` // -v, --mount, --tmpfs
	VolumesFrom []string `json:",omitempty"` // NAME[:OPTIONS]
	ImageVolume string   `json:",omitempty"` // anonymous (""), tmpfs, ignore
	Secrets     []Secret `json:",omitempty"`
	ReadOnly    bool     `json:",omitempty"`
	// ReadOnlyTmpfs, nil meaning true, puts tmpfs on /dev/shm, /run, /tmp and
	// /var/tmp of a read-only container.
	ReadOnlyTmpfs  *bool    `json:",omitempty"`
	ShmSize        int64    `json:",omitempty"` // bytes; 0 is 65536000
	ShmSizeSystemd int64    `json:",omitempty"`
	StorageOpts    []string `json:",omitempty"` // size=
	ChrootDirs     []string `json:",omitempty"`

	Privileged        bool     `json:",omitempty"`
	CapAdd            []string `json:",omitempty"`
	CapDrop           []string `json:",omitempty"`
	SecurityOpt       []string `json:",omitempty"` // seccomp= apparmor= label= no-new-privileges mask= unmask= proc-opts= systempaths=
	SeccompPolicy     string   `json:",omitempty"`
	Devices           []Device `json:",omitempty"`
	GPUs              []string `json:",omitempty"`
	DeviceCgroupRules []string `json:",omitempty"`
	Sysctls           []string `json:",omitempty"` // NAME=VALUE
	Ulimits           []Ulimit `json:",omitempty"`
	Personality       string   `json:",omitempty"` // LINUX, LINUX32
	OOMScoreAdj       *int     `json:",omitempty"`
	Systemd           string   `json:",omitempty"` // true (""), false, always

	Init     bool   `json:",omitempty"`
	InitPath string `json:",omitempty"`
	Timezone string `json:",omitempty"` // name of a zone, or local

	Resources    Resources `json:",omitzero"`
	CgroupParent string    `json:",omitempty"`
	Cgroups      string    `json:",omitempty"` // enabled (""), disabled, no-conmon, split
	RdtClass     string    `json:",omitempty"`

	// LogDriver is k8s-file (""), json-file, none, passthrough,
	// passthrough-tty; LogOpts are path=, max-size=, max-file=, tag=.
	LogDriver string   `json:",omitempty"`
	LogOpts   []string `json:",omitempty"`

	Health *Health `json:",omitempty"`

	// CreateCommand is the command line, for inspect.
	CreateCommand []string `json:",omitempty"`
}

// A NetworkAttach is one --network NAME[:OPTIONS].
type NetworkAttach struct {
	Name      string
	Aliases   []string `json:",omitempty"`
	IPs       []string `json:",omitempty"`
	MAC       string   `json:",omitempty"`
	Interface string   `json:",omitempty"`
	// HostInterface is the name of the other end of a bridge's interface.
	HostInterface string `json:",omitempty"`
}

// Resources are limits as the user says them; zero (nil) leaves one unset.
type Resources struct {
	Memory            int64             `json:",omitempty"` // bytes
	MemoryReservation int64             `json:",omitempty"`
	MemorySwap        int64             `json:",omitempty"` // memory and swap together; -1 unlimited; 0 twice Memory
	MemorySwappiness  *int64            `json:",omitempty"` // 0…100
	OOMKillDisable    bool              `json:",omitempty"`
	CPUs              float64           `json:",omitempty"`
	CPUShares         uint64            `json:",omitempty"`
	CPUPeriod         uint64            `json:",omitempty"` // µs
	CPUQuota          int64             `json:",omitempty"` // µs
	CPURTPeriod       uint64            `json:",omitempty"`
	CPURTRuntime      int64             `json:",omitempty"`
	CPUSetCPUs        string            `json:",omitempty"`
	CPUSetMems        string            `json:",omitempty"`
	PidsLimit         *int64            `json:",omitempty"` // nil is 2048; ≤ 0 unlimited
	BlkioWeight       uint16            `json:",omitempty"` // 10…1000
	BlkioWeightDevice []Weight          `json:",omitempty"`
	DeviceReadBps     []Rate            `json:",omitempty"`
	DeviceWriteBps    []Rate            `json:",omitempty"`
	DeviceReadIOps    []Rate            `json:",omitempty"`
	DeviceWriteIOps   []Rate            `json:",omitempty"`
	Unified           map[string]string `json:",omitempty"` // --cgroup-conf, v2 only
}

// A Rate limits a block device: bytes or operations per second.
type Rate struct {
	Path string
	Rate uint64
}

// A Weight is a block device's share.
type Weight struct {
	Path   string
	Weight uint16
}

// A Mount is one -v, --mount, --tmpfs or image volume, as the user said it.
type Mount struct {
	// Type is bind, volume, tmpfs, image, artifact, devpts, ramfs, glob or cgroup.
	Type string
	// Source is a directory or file of the host, a volume's name (empty: an
	// anonymous one) or an image's or artifact's name.
	Source      string `json:",omitempty"`
	Destination string
	// SubPath is a path below the volume's or image's root.
	SubPath string `json:",omitempty"`
	// Options are mount options in the order they were said, for each type
	// what mount(8) calls them: ro, rw, nosuid, size=1m, rslave, …; and ours:
	// z Z U O idmap copy nocopy nocreate upperdir= workdir=, and of an artifact
	// title= digest= name=.
	Options []string `json:",omitempty"`
	// CreateSource makes a missing bind source, as docker's -v does.
	CreateSource bool `json:",omitempty"`
	// Anonymous marks a volume that nobody named; Image one that comes from
	// the image's VOLUME.
	Anonymous bool `json:",omitempty"`
	Image     bool `json:",omitempty"`
	// VolumeLabels, VolumeDriver and VolumeOptions create a missing volume.
	VolumeLabels  map[string]string `json:",omitempty"`
	VolumeDriver  string            `json:",omitempty"`
	VolumeOptions map[string]string `json:",omitempty"`
}

// A Device is one --device HOST[:CONTAINER][:rwm]. A directory stands for the
// devices below it.
type Device struct {
	Host, Container, Access string
}

// An Ulimit is one --ulimit; Host copies all of the engine's.
type Ulimit struct {
	Name       string // nofile, nproc, …
	Soft, Hard int64  // -1 unlimited
}

// A Secret is one --secret NAME[,type=mount|env,target=,uid=,gid=,mode=].
type Secret struct {
	Name, Target string
	Env          bool
	UID, GID     uint32
	Mode         uint32
}

// Health is how to see that a container is well.
type Health struct {
	Disable bool `json:",omitempty"`
	// Test is ["CMD", …], ["CMD-SHELL", text] or ["NONE"].
	Test            []string      `json:",omitempty"`
	Interval        time.Duration `json:",omitempty"`
	Timeout         time.Duration `json:",omitempty"`
	StartPeriod     time.Duration `json:",omitempty"`
	StartInterval   time.Duration `json:",omitempty"`
	Retries         int           `json:",omitempty"`
	OnFailure       string        `json:",omitempty"` // none, kill, restart, stop
	StartupTest     []string      `json:",omitempty"`
	StartupInterval time.Duration `json:",omitempty"`
	StartupTimeout  time.Duration `json:",omitempty"`
	StartupRetries  int           `json:",omitempty"`
	StartupSuccess  int           `json:",omitempty"`
	LogDestination  string        `json:",omitempty"`
	// LogDestination is local (""), events_logger or a directory. Its last
	// MaxLogCount results are kept (nil is 5, 0 all), MaxLogSize characters of
	// each (nil is 500).
	MaxLogCount *uint `json:",omitempty"`
	MaxLogSize  *uint `json:",omitempty"`
}

// Streams are a command's standard streams and its terminal. A nil stream is
// not attached.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Console is the user's terminal when the container has one as well: the
	// engine makes it raw while attached, and passes its size on.
	Console *os.File
	// DetachKeys is a list such as "ctrl-p,ctrl-q"; "" detaches never.
	DetachKeys string
	// SigProxy passes the signals that the engine's process gets on to the
	// container.
	SigProxy bool
}

// RunOptions say how Run attaches.
type RunOptions struct {
	Detach  bool
	Streams Streams
	// Created is told the ID before the program starts (for --cidfile).
	Created func(id string) error
}

// ExecOptions start one more program in a running container.
type ExecOptions struct {
	Command     []string
	Env         []string // as CreateOptions.Env
	User        string   // "" is the container's
	WorkingDir  string   // "" is the container's
	Privileged  bool
	Terminal    bool
	Interactive bool
	Detach      bool
	PreserveFDs int
	PreserveFD  []int
	NoSession   bool
	Streams     Streams
}

// StopOptions say how to stop.
type StopOptions struct {
	// Timeout is in seconds before SIGKILL; nil is the container's own.
	Timeout *uint
	// Signal is first sent; "" is the container's own.
	Signal string

	shutdown bool // it is to be started again after the boot
}

// RemoveOptions say how to remove.
type RemoveOptions struct {
	Force   bool  // a running one is stopped
	Volumes bool  // anonymous volumes as well
	Depend  bool  // and containers that depend on it; of an infra container, its pod
	withPod bool  // its pod goes as well
	Timeout *uint // seconds; with Force, nil is the container's own
}

// ListOptions choose containers.
type ListOptions struct {
	All bool
	// Last, when above 0, is how many of the newest; implies All.
	Last int
	// Size asks for the bytes of the writable layer.
	Size bool
	// Namespaces asks for the numbers of the namespaces, seven looks a container.
	Namespaces bool
	// Filters are KEY → values; values of one key are alternatives (labels:
	// all must hold). Keys are podman's: id name label label! status exited
	// ancestor before since volume network pod health restart-policy until
	// annotation command should-start-on-boot.
	Filters Filters
}

// Filters are --filter KEY=VALUE, grouped by key; KEY!=VALUE keeps "KEY!" as
// its key.
type Filters map[string][]string

// Condition of Wait: the states of a container (created, running, paused,
// stopped, exited, removing, healthy, unhealthy); none means stopped or exited.
type WaitOptions struct {
	Conditions     []string
	ExitFirstMatch bool
	Ignore         bool
	Interval       time.Duration
}

// LogsOptions choose what of a log is shown.
type LogsOptions struct {
	Follow       bool
	Since, Until time.Time
	Tail         int // -1 all
	Timestamps   bool
}

// CopyOptions for CopyIn and CopyOut.
type CopyOptions struct {
	// Archive keeps the archive's owners (else: the container's user on the
	// way in, the caller on the way out).
	Archive bool
	// Overwrite lets a directory replace a file and the other way round.
	Overwrite bool
}

// CommitOptions make an image of a container.
type CommitOptions struct {
	Name           string // "" leaves it without a name
	Author         string
	Message        string
	Changes        []string // CMD ENTRYPOINT ENV EXPOSE LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR
	Docker         bool     // docker's media types
	Pause          bool
	IncludeVolumes bool
	Squash         bool
	// Config, when not nil, is merged over the container's.
	Config *oci.ImageConfig
}

// UpdateOptions change a container that exists. Nil keeps.
type UpdateOptions struct {
	Resources *Resources // fields that are set
	Restart   *string
	Env       []string
	UnsetEnv  []string
	Ulimits   []Ulimit
	Health    *Health
}

// CloneOptions make a container like another.
type CloneOptions struct {
	Name      string
	Image     string // "" the same
	Pod       string // "" the same
	Resources *Resources
	Destroy   bool // remove the original
	Force     bool
	Run       bool
}

// TopOptions: Columns are descriptors as ps -o knows them (pid, user, args…),
// or hpid huser capeff seccomp label state…; none is the usual eight.
type TopOptions struct{ Columns []string }
