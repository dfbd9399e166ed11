package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hull/cgroup"
	"hull/oci"
	"hull/state"
)

// Info is the host, the store and this program, with the names that podman info has in JSON and in templates.
type Info struct {
	Host       InfoHost          `json:"host"`
	Plugins    map[string]any    `json:"plugins"`
	Registries map[string]any    `json:"registries"`
	Store      InfoStore         `json:"store"`
	Version    map[string]string `json:"version"`
}

// An InfoHost is the machine as the engine sees it.
type InfoHost struct {
	Arch            string           `json:"arch"`
	BuildahVersion  string           `json:"buildahVersion"`
	CgroupManager   string           `json:"cgroupManager"`
	CgroupsVersion  string           `json:"cgroupVersion"`
	CPUs            int              `json:"cpus"`
	Distribution    InfoDistribution `json:"distribution"`
	Hostname        string           `json:"hostname"`
	Kernel          string           `json:"kernel"`
	LogDriver       string           `json:"logDriver"`
	MemFree         uint64           `json:"memFree"`
	MemTotal        uint64           `json:"memTotal"`
	NetworkBackend  string           `json:"networkBackend"`
	OCIRuntime      InfoRuntime      `json:"ociRuntime"`
	OS              string           `json:"os"`
	RemoteSocket    InfoSocket       `json:"remoteSocket"`
	ServiceIsRemote bool             `json:"serviceIsRemote"`
	Security        InfoSecurity     `json:"security"`
	SwapFree        uint64           `json:"swapFree"`
	SwapTotal       uint64           `json:"swapTotal"`
	Uptime          string           `json:"uptime"`
	Linkmode        string           `json:"linkmode"`
}

// An InfoRuntime is the program that starts containers.
type InfoRuntime struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Version string `json:"version"`
}

// An InfoSocket is where a service listens.
type InfoSocket struct {
	Exists bool   `json:"exists"`
	Path   string `json:"path,omitempty"`
}

// An InfoDistribution is what os-release says.
type InfoDistribution struct {
	Distribution string `json:"distribution"`
	Version      string `json:"version"`
	Codename     string `json:"codename,omitempty"`
}

// InfoSecurity is which mechanisms there are.
type InfoSecurity struct {
	AppArmorEnabled     bool   `json:"apparmorEnabled"`
	DefaultCapabilities string `json:"capabilities"`
	Rootless            bool   `json:"rootless"`
	SECCOMPEnabled      bool   `json:"seccompEnabled"`
	SECCOMPProfilePath  string `json:"seccompProfilePath"`
	SELinuxEnabled      bool   `json:"selinuxEnabled"`
}

// InfoStore is where things are and how many.
type InfoStore struct {
	ConfigFile         string            `json:"configFile"`
	ContainerStore     InfoContainers    `json:"containerStore"`
	GraphDriverName    string            `json:"graphDriverName"`
	GraphOptions       map[string]any    `json:"graphOptions"`
	GraphRoot          string            `json:"graphRoot"`
	GraphRootAllocated uint64            `json:"graphRootAllocated"`
	GraphRootUsed      uint64            `json:"graphRootUsed"`
	GraphStatus        map[string]string `json:"graphStatus"`
	ImageCopyTmpDir    string            `json:"imageCopyTmpDir"`
	ImageStore         InfoImages        `json:"imageStore"`
	ImageRoot          string            `json:"imageRoot"`
	ImageStores        []string          `json:"additionalImageStores"` // only read
	RunRoot            string            `json:"runRoot"`
	TransientStore     bool              `json:"transientStore"`
	VolumePath         string            `json:"volumePath"`
}

// InfoImages counts images.
type InfoImages struct {
	Number int `json:"number"`
}

// InfoContainers counts containers.
type InfoContainers struct {
	Number  int `json:"number"`
	Paused  int `json:"paused"`
	Running int `json:"running"`
	Stopped int `json:"stopped"`
}

// Info looks at the host and the store.
func (e *Engine) Info(ctx context.Context) (*Info, error) {
	host, err := cgroup.LookUp()
	if err != nil {
		return nil, err
	}
	var u unix.Utsname
	unix.Uname(&u)
	var si unix.Sysinfo_t
	unix.Sysinfo(&si)
	unit := uint64(max(si.Unit, 1))
	i := &Info{Plugins: map[string]any{"volume": []string{"local"}, "network": []string{"bridge", "macvlan", "ipvlan"}, "log": []string{"k8s-file", "json-file", "none", "passthrough"}},
		Registries: map[string]any{}, Version: map[string]string{"Version": Version(), "GoVersion": runtime.Version(), "OsArch": "linux/" + runtime.GOARCH, "APIVersion": Version()}}
	i.Host = InfoHost{Arch: runtime.GOARCH, CgroupManager: e.CgroupManager(), CgroupsVersion: "v1", CPUs: runtime.NumCPU(),
		Distribution: distribution(), Hostname: hostHostname(), Kernel: unix.ByteSliceToString(u.Release[:]), LogDriver: firstOf(e.o.Defaults.LogDriver, "k8s-file"),
		MemFree: si.Freeram * unit, MemTotal: si.Totalram * unit, SwapFree: si.Freeswap * unit, SwapTotal: si.Totalswap * unit, NetworkBackend: "hull", OS: "linux",
		OCIRuntime: InfoRuntime{Name: "hull", Path: e.o.Executable, Version: "spec: " + oci.SpecVersion},
		Uptime:     (time.Duration(si.Uptime) * time.Second).String(), Linkmode: "static"}
	if host.V2() {
		i.Host.CgroupsVersion = "v2"
	}
	i.Host.Security = InfoSecurity{AppArmorEnabled: appArmorEnabled(), DefaultCapabilities: strings.Join(defaultCapabilities, ","),
		Rootless: e.o.Rootless, SECCOMPEnabled: true, SELinuxEnabled: e.selinux() && !e.o.Defaults.NoLabels}
	return i, e.infoStore(ctx, i)
}

func (e *Engine) infoStore(ctx context.Context, i *Info) error {
	s := &i.Store
	*s = InfoStore{GraphRoot: e.o.Root, RunRoot: e.o.RunRoot, GraphOptions: map[string]any{}, GraphStatus: map[string]string{},
		ImageRoot: e.imageRoot(), ImageStores: append([]string{}, e.o.ImageStores...),
		TransientStore: e.o.TransientStore, VolumePath: filepath.Join(e.o.Root, "volumes"), ImageCopyTmpDir: os.TempDir()}
	snaps, err := e.Snapshots()
	if err != nil {
		return err
	}
	s.GraphDriverName = snaps.Driver()
	if s.GraphDriverName == "overlay" {
		// Changes are read from the upper directories, never by comparing trees.
		s.GraphStatus["Native Overlay Diff"] = "true"
		s.GraphStatus["Backing Filesystem"] = fileSystem(e.o.Root)
	}
	var st unix.Statfs_t
	if unix.Statfs(e.o.Root, &st) == nil {
		s.GraphRootAllocated = st.Blocks * uint64(st.Bsize)
		s.GraphRootUsed = (st.Blocks - st.Bfree) * uint64(st.Bsize)
	}
	images, err := e.Images()
	if err != nil {
		return err
	}
	list, err := images.List(ctx)
	if err != nil {
		return err
	}
	s.ImageStore.Number = len(list)
	all, err := e.List(ctx, ListOptions{All: true})
	if err != nil {
		return err
	}
	for _, c := range all {
		s.ContainerStore.Number++
		switch c.State {
		case StatusRunning, StatusStopping:
			s.ContainerStore.Running++
		case StatusPaused:
			s.ContainerStore.Paused++
		default:
			s.ContainerStore.Stopped++
		}
	}
	return nil
}

func hostHostname() string {
	h, err := os.Hostname()
	if err != nil {
		return ""
	}
	return h
}

// distribution reads os-release.
func distribution() InfoDistribution {
	out := InfoDistribution{Distribution: "unknown", Version: "unknown"}
	data, err := state.ReadFile("/etc/os-release")
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(data)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		v = strings.Trim(v, `"`)
		switch k {
		case "ID":
			out.Distribution = v
		case "VERSION_ID":
			out.Version = v
		case "VERSION_CODENAME":
			out.Codename = v
		}
	}
	return out
}

func (e *Engine) layerSize(ctx context.Context, chain oci.Digest) int64 {
	snaps, err := e.Snapshots()
	if err != nil {
		return 0
	}
	size, _, err := snaps.LayerUsage(ctx, chain)
	if err != nil {
		return 0
	}
	return size
}

// A Problem is what Check found.
type Problem struct {
	Subject string // "blob sha256:…", "container ID"
	Err     error
	// Repaired says that it is mended, or removed where nothing was left to mend.
	Repaired bool
}

// Check verifies every blob by its digest, every image's layers, that artifacts
// are whole, and every record of a container or volume. With repair, what can be made again is.
func (e *Engine) Check(ctx context.Context, repair, quick bool) ([]Problem, error) {
	if err := e.Recover(ctx); err != nil {
		return nil, err
	}
	var found []Problem
	blobs, err := e.Blobs()
	if err != nil {
		return nil, err
	}
	if !quick {
		err = blobs.Walk(func(d oci.Digest, _ int64) error {
			if err := blobs.Verify(ctx, d); err != nil && !errors.Is(err, fs.ErrNotExist) {
				p := Problem{Subject: "blob " + string(d), Err: err}
				if repair {
					p.Repaired = blobs.Remove(d) == nil // the next pull fetches it again
				}
				found = append(found, p)
			}
			return context.Cause(ctx)
		})
		if err != nil {
			return found, err
		}
	}
	images, err := e.Images()
	if err != nil {
		return found, err
	}
	list, err := images.List(ctx)
	if err != nil {
		return found, err
	}
	snaps, err := e.Snapshots()
	if err != nil {
		return found, err
	}
	if err := snaps.CollectRemoved(); err != nil {
		return found, err
	}
	for _, i := range list {
		for _, l := range i.Layers {
			if snaps.Exists(l.Chain) {
				continue
			}
			p := Problem{Subject: "image " + i.ID.Hex(), Err: fmt.Errorf("layer %s is missing", l.Chain)}
			if repair {
				p.Repaired = images.EnsureLayers(ctx, i) == nil
			}
			found = append(found, p)
		}
	}
	found = append(found, e.checkArtifacts(ctx, images)...)
	return append(found, e.checkContainers(ctx, repair)...), nil
}

func (e *Engine) checkContainers(ctx context.Context, repair bool) []Problem {
	var found []Problem
	ids, err := e.containerIDs()
	if err != nil {
		return []Problem{{Subject: "containers", Err: err}}
	}
	snaps, err := e.Snapshots()
	if err != nil {
		return []Problem{{Subject: "snapshots", Err: err}}
	}
	known := map[string]bool{}
	for _, id := range ids {
		known[id] = true
		r, err := e.loadRecord(id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err == nil && r.Options.Rootfs == "" && !r.bare() {
			_, err = snaps.Mounts(id)
		}
		if err != nil && !e.exists(id) {
			continue // removed meanwhile
		}
		if err != nil {
			p := Problem{Subject: "container " + id, Err: err}
			if repair {
				_, rerr := e.Remove(ctx, id, RemoveOptions{Force: true})
				p.Repaired = rerr == nil
			}
			found = append(found, p)
		}
	}
	all, err := snaps.List()
	if err != nil {
		return append(found, Problem{Subject: "snapshots", Err: err})
	}
	for _, s := range all {
		if s.Name == "" || known[s.Name] || len(s.Name) != 64 {
			continue
		}
		p := Problem{Subject: "snapshot " + s.Name, Err: errors.New("no container has it")}
		if repair {
			p.Repaired = snaps.Remove(ctx, s.Name) == nil
		}
		found = append(found, p)
	}
	if names, err := e.volumeNames(); err == nil {
		for _, n := range names {
			v, err := e.loadVolume(n)
			switch {
			case errors.Is(err, ErrNotFound) && fileExists(filepath.Join(e.volumeDir(n), "_data")):
				err = errors.New("its files are there, and no record: hull volume create keeps them under this name")
			case errors.Is(err, ErrNotFound):
				continue // removed meanwhile
			case err == nil && v.Importing:
				err = errors.New("an import into it was cut off: do it again")
			}
			if err == nil {
				continue
			}
			p := Problem{Subject: "volume " + n, Err: err}
			if repair && v == nil { // one that was never finished and holds nothing goes
				err := e.recoverLeft(ctx, "volume", n, e.dropUnfinished)
				p.Repaired = err == nil && !fileExists(e.volumeDir(n))
			}
			found = append(found, p)
		}
	}
	return found
}

// fileSystem is the name of the file system that path lies on.
func fileSystem(path string) string {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return ""
	}
	name, ok := map[int64]string{unix.EXT4_SUPER_MAGIC: "extfs", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.F2FS_SUPER_MAGIC: "f2fs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs"}[int64(st.Type)]
	if !ok {
		return fmt.Sprintf("0x%x", st.Type)
	}
	return name
}
