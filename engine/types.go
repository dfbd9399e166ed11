package engine

import (
	"time"

	"hull/network"
	"hull/snapshot"
)

// PortMapping is one published port.
type PortMapping = network.PortMapping

// State of a container, by podman's words.
const (
	StatusConfigured  = "configured"
	StatusCreated     = "created"
	StatusInitialized = "initialized"
	StatusRunning     = "running"
	StatusPaused      = "paused"
	StatusStopping    = "stopping"
	StatusStopped     = "stopped" // has ended, not yet cleaned up
	StatusExited      = "exited"
	StatusRemoving    = "removing"
)

// A PsEntry is a container in List, with the JSON names of podman ps.
type PsEntry struct {
	AutoRemove   bool
	Command      []string
	CreatedAt    string
	Exited       bool
	ExitedAt     int64 // Unix seconds
	ExitCode     int32
	ID           string `json:"Id"`
	Image        string
	ImageID      string
	IsInfra      bool
	Labels       map[string]string
	Mounts       []string
	Names        []string
	Namespaces   PsNamespaces
	Networks     []string
	Pid          int
	Pod          string
	PodName      string
	Ports        []PortMapping
	ExposedPorts map[uint16][]string
	Restarts     uint
	Size         *PsSize
	StartedAt    int64 // Unix seconds
	State        string
	Status       string // "Up 2 minutes (healthy)"
	Created      int64  // Unix seconds

	CreatedTime time.Time `json:"-"`
	Health      string    `json:"-"`
}

// PsNamespaces are the inode numbers of a running container's namespaces.
type PsNamespaces struct {
	MNT    string `json:",omitempty"`
	Cgroup string `json:",omitempty"`
	IPC    string `json:",omitempty"`
	NET    string `json:",omitempty"`
	PIDNS  string `json:",omitempty"`
	UTS    string `json:",omitempty"`
	User   string `json:",omitempty"`
}

// PsSize are bytes: of the writable layer, and of that and the image together.
type PsSize struct {
	RootFsSize int64 `json:"rootFsSize"`
	RwSize     int64 `json:"rwSize"`
}

// A Volume with the JSON names of podman volume inspect.
type Volume struct {
	Name        string
	Driver      string
	Mountpoint  string
	CreatedAt   time.Time
	Labels      map[string]string
	Scope       string
	Options     map[string]string
	UID         int  `json:",omitempty"`
	GID         int  `json:",omitempty"`
	Anonymous   bool `json:",omitempty"`
	MountCount  int
	NeedsCopyUp bool `json:",omitempty"`
	// Importing says that an import has not come to its end: perhaps it was cut off.
	Importing  bool `json:",omitempty"`
	NeedsChown bool `json:",omitempty"`
	LockNumber int  `json:"-"`

	limit snapshot.Limit // what the options ask for
}

// VolumeCreateOptions for VolumeCreate; a name is made when empty.
type VolumeCreateOptions struct {
	Name     string
	Driver   string // local (""), image
	Labels   map[string]string
	Options  map[string]string // type device o, image
	UID, GID *int
	Ignore   bool // one that exists is not an error
}

// ContainerStats is one reading of a running container, with the JSON names
// of podman's API.
type ContainerStats struct {
	ContainerID string
	Name        string
	CPU         float64 // percent since the reading before; of one CPU
	AvgCPU      float64 // percent since the start
	CPUNano     uint64
	SystemNano  uint64
	UpTime      time.Duration
	MemUsage    uint64
	MemLimit    uint64
	MemPerc     float64
	NetInput    uint64
	NetOutput   uint64
	BlockInput  uint64
	BlockOutput uint64
	PIDs        uint64
}

// A Removed is what prune and rm took away.
type Removed struct {
	ID  string `json:"Id"`
	Err error  `json:",omitempty"`
	// Size in bytes that came free; 0 when it was not counted.
	Size uint64
}
