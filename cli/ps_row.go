package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hull/engine"
	"hull/format"
	"hull/network"
)

// psRow is what a template of ps sees of a container. Its methods shadow the
// fields of the entry that are shown otherwise than they are kept.
type psRow struct {
	engine.PsEntry
	now     time.Time
	noTrunc bool
	docker  bool
}

func (r psRow) ID() string {
	if r.noTrunc {
		return r.PsEntry.ID
	}
	return format.ShortID(r.PsEntry.ID)
}

func (r psRow) ImageID() string {
	if r.noTrunc {
		return r.PsEntry.ImageID
	}
	return format.ShortID(r.PsEntry.ImageID)
}

func (r psRow) Image() string { return r.PsEntry.Image }

// Command is shown as its words, cut after 17 characters.
func (r psRow) Command() string {
	c := strings.Join(r.PsEntry.Command, " ")
	if !r.noTrunc {
		c = format.Truncate(c, 17)
	}
	if r.docker {
		c = `"` + c + `"`
	}
	return c
}

func (r psRow) CreatedHuman() string { return format.Ago(r.now, r.CreatedTime) }
func (r psRow) RunningFor() string   { return r.CreatedHuman() }
func (r psRow) CreatedAt() string {
	return r.CreatedTime.Format("2006-01-02 15:04:05.999999999 -0700 MST")
}
func (r psRow) Names() string     { return strings.Join(r.PsEntry.Names, ",") }
func (r psRow) Mounts() string    { return strings.Join(r.PsEntry.Mounts, ",") }
func (r psRow) Networks() string  { return strings.Join(r.PsEntry.Networks, ",") }
func (r psRow) State() string     { return r.PsEntry.State }
func (r psRow) Status() string    { return r.PsEntry.Status }
func (r psRow) Pid() int          { return r.PsEntry.Pid }
func (r psRow) PID() int          { return r.PsEntry.Pid }
func (r psRow) CGROUPNS() string  { return r.PsEntry.Namespaces.Cgroup }
func (r psRow) Cgroup() string    { return r.PsEntry.Namespaces.Cgroup }
func (r psRow) IPC() string       { return r.PsEntry.Namespaces.IPC }
func (r psRow) MNT() string       { return r.PsEntry.Namespaces.MNT }
func (r psRow) NET() string       { return r.PsEntry.Namespaces.NET }
func (r psRow) PIDNS() string     { return r.PsEntry.Namespaces.PIDNS }
func (r psRow) USERNS() string    { return r.PsEntry.Namespaces.User }
func (r psRow) User() string      { return r.PsEntry.Namespaces.User }
func (r psRow) UTS() string       { return r.PsEntry.Namespaces.UTS }
func (r psRow) LocalVolumes() int { return len(r.PsEntry.Mounts) }
func (r psRow) Platform() string  { return "" }

func (r psRow) Pod() string {
	if r.noTrunc {
		return r.PsEntry.Pod
	}
	return format.ShortID(r.PsEntry.Pod)
}

// Labels are a map in podman's templates, KEY=VALUE words in docker's.
func (r psRow) Labels() any {
	if !r.docker {
		return r.PsEntry.Labels
	}
	var words []string
	for _, k := range slices.Sorted(maps.Keys(r.PsEntry.Labels)) {
		words = append(words, k+"="+r.PsEntry.Labels[k])
	}
	return strings.Join(words, ",")
}

// Label is the value of one label.
func (r psRow) Label(name string) string { return r.PsEntry.Labels[name] }

// Size is what the writable layer takes, and with the image.
func (r psRow) Size() string {
	if r.PsEntry.Size == nil {
		return ""
	}
	return fmt.Sprintf("%s (virtual %s)", format.ShortSize(r.PsEntry.Size.RwSize), format.ShortSize(r.PsEntry.Size.RootFsSize))
}

// Ports are the published ports, then those that are only exposed.
func (r psRow) Ports() string { return portsText(r.PsEntry.Ports, r.PsEntry.ExposedPorts) }

// portsText is "0.0.0.0:8080->80/tcp, 443/tcp".
func portsText(published []network.PortMapping, exposed map[uint16][]string) string {
	var words []string
	seen := map[string]bool{}
	for _, p := range published {
		host := "0.0.0.0"
		if p.HostIP.IsValid() {
			host = p.HostIP.String()
		}
		if p.HostIP.Is6() {
			host = "[" + host + "]"
		}
		for proto := range strings.SplitSeq(p.Protocol, ",") {
			if proto == "" {
				proto = "tcp"
			}
			words = append(words, fmt.Sprintf("%s:%s->%s/%s", host, portRange(p.HostPort, p.Range), portRange(p.ContainerPort, p.Range), proto))
			for i := range max(p.Range, 1) {
				seen[fmt.Sprintf("%d/%s", p.ContainerPort+i, proto)] = true
			}
		}
	}
	for _, port := range slices.Sorted(maps.Keys(exposed)) {
		for _, proto := range exposed[port] {
			if w := fmt.Sprintf("%d/%s", port, proto); !seen[w] {
				words = append(words, w)
			}
		}
	}
	return strings.Join(words, ", ")
}

// portRange is "80" or "80-89".
func portRange(first, count uint16) string {
	if count <= 1 {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, first+count-1)
}
