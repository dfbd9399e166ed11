package oci

import specs "github.com/opencontainers/runtime-spec/specs-go"

// The runtime specification's types, version 1.3, under names of our own so
// that the rest of the module imports one package for all specifications.
type (
	Spec              = specs.Spec
	Process           = specs.Process
	User              = specs.User
	Root              = specs.Root
	Mount             = specs.Mount
	Box               = specs.Box
	Hook              = specs.Hook
	Hooks             = specs.Hooks
	POSIXRlimit       = specs.POSIXRlimit
	Scheduler         = specs.Scheduler
	CPUAffinity       = specs.CPUAffinity
	State             = specs.State
	ContainerState    = specs.ContainerState
	Linux             = specs.Linux
	LinuxNamespace    = specs.LinuxNamespace
	LinuxCapabilities = specs.LinuxCapabilities
	LinuxIDMapping    = specs.LinuxIDMapping
	LinuxDevice       = specs.LinuxDevice
	LinuxDeviceCgroup = specs.LinuxDeviceCgroup
	LinuxResources    = specs.LinuxResources
	LinuxMemory       = specs.LinuxMemory
	LinuxCPU          = specs.LinuxCPU
	LinuxPids         = specs.LinuxPids
	LinuxBlockIO      = specs.LinuxBlockIO
	LinuxWeightDevice = specs.LinuxWeightDevice
	LinuxNetwork      = specs.LinuxNetwork
	LinuxRdma         = specs.LinuxRdma
	LinuxSeccomp      = specs.LinuxSeccomp
	LinuxSeccompArg   = specs.LinuxSeccompArg
	LinuxSyscall      = specs.LinuxSyscall
	LinuxTimeOffset   = specs.LinuxTimeOffset
	LinuxIntelRdt     = specs.LinuxIntelRdt
	LinuxPersonality  = specs.LinuxPersonality
	LinuxMemoryPolicy = specs.LinuxMemoryPolicy
	LinuxIOPriority   = specs.LinuxIOPriority
	LinuxNetDevice    = specs.LinuxNetDevice

	LinuxThrottleDevice    = specs.LinuxThrottleDevice
	LinuxHugepageLimit     = specs.LinuxHugepageLimit
	LinuxInterfacePriority = specs.LinuxInterfacePriority
	LinuxNamespaceType     = specs.LinuxNamespaceType
	LinuxSeccompAction     = specs.LinuxSeccompAction
	LinuxSeccompOperator   = specs.LinuxSeccompOperator
	LinuxSeccompFlag       = specs.LinuxSeccompFlag
)

// The kinds of namespaces. See runtime-spec config-linux.md#namespaces.
const (
	PIDNamespace     = specs.PIDNamespace
	NetworkNamespace = specs.NetworkNamespace
	MountNamespace   = specs.MountNamespace
	IPCNamespace     = specs.IPCNamespace
	UTSNamespace     = specs.UTSNamespace
	UserNamespace    = specs.UserNamespace
	CgroupNamespace  = specs.CgroupNamespace
	TimeNamespace    = specs.TimeNamespace
)

// SpecVersion is the version of the runtime specification that Hull writes.
const SpecVersion = "1.3.0"
