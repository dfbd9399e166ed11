package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A metric is one family of the Prometheus text format: its samples are lines
// "name{labels} value".
type metric struct {
	name, kind, help string
	samples          []string
}

// metrics are families in the order in which they are written.
type metrics struct{ list []*metric }

// define adds a family. Its samples come later.
func (m *metrics) define(name, kind, help string) *metric {
	f := &metric{name: name, kind: kind, help: help}
	m.list = append(m.list, f)
	return f
}

// add adds a sample; labels are names and values in turn.
func (f *metric) add(value float64, labels ...string) {
	var b strings.Builder
	b.WriteString(f.name)
	for i := 0; i < len(labels); i += 2 {
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		b.WriteString(labels[i] + `="` + metricEscapes.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	f.samples = append(f.samples, b.String()+" "+strconv.FormatFloat(value, 'g', -1, 64))
}

// metricEscapes are the format's for label values; what is no UTF-8 was
// replaced before.
var metricEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// Metrics writes what Prometheus wants to know of all containers, pods and the
// store, in its text format 0.0.4. The names are in docs/metrics.md.
func (e *Engine) Metrics(ctx context.Context, w io.Writer) error {
	var m metrics
	m.define("hull_build_info", "gauge", "Always 1; the label is the version.").add(1, "version", Version())
	if err := e.containerMetrics(ctx, &m); err != nil {
		return err
	}
	if err := e.podMetrics(ctx, &m); err != nil {
		return err
	}
	if err := e.storeMetrics(ctx, &m); err != nil {
		return err
	}
	var b bytes.Buffer
	for _, f := range m.list {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)
		for _, s := range f.samples {
			b.WriteString(strings.ToValidUTF8(s, "\uFFFD") + "\n")
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (e *Engine) containerMetrics(ctx context.Context, m *metrics) error {
	info := m.define("hull_container_info", "gauge", "Always 1; the labels say which image and pod a container is of.")
	state := m.define("hull_container_state", "gauge", "1 for the state that a container is in.")
	health := m.define("hull_container_healthy", "gauge", "1 if the health check of a container passes, 0 if not; none without a check.")
	exit := m.define("hull_container_exit_code", "gauge", "Exit code of a container that has ended.")
	started := m.define("hull_container_start_time_seconds", "gauge", "When a running container was started, in Unix time.")
	restarts := m.define("hull_container_restarts_total", "counter", "How often a container was restarted by its policy.")
	all, err := e.List(ctx, ListOptions{All: true})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b PsEntry) int { return strings.Compare(a.Names[0], b.Names[0]) })
	for _, c := range all {
		who := []string{"id", c.ID, "name", c.Names[0]}
		info.add(1, append(who, "image", c.Image, "pod", c.PodName)...)
		state.add(1, append(who, "state", c.State)...)
		switch c.Health {
		case "healthy":
			health.add(1, who...)
		case "unhealthy", "starting":
			health.add(0, who...)
		}
		if c.Exited {
			exit.add(float64(c.ExitCode), who...)
		} else if c.StartedAt > 0 {
			started.add(float64(c.StartedAt), who...)
		}
		restarts.add(float64(c.Restarts), who...)
	}
	return e.usageMetrics(ctx, m)
}

func (e *Engine) usageMetrics(ctx context.Context, m *metrics) error {
	cpu := m.define("hull_container_cpu_seconds_total", "counter", "Processor time of a running container.")
	memory := m.define("hull_container_memory_usage_bytes", "gauge", "Memory of a running container.")
	limit := m.define("hull_container_memory_limit_bytes", "gauge", "Most memory that a running container may have; the machine's without a limit.")
	pids := m.define("hull_container_pids", "gauge", "Processes and threads of a running container.")
	in := m.define("hull_container_network_receive_bytes_total", "counter", "Bytes that came to the network namespace of a running container.")
	out := m.define("hull_container_network_transmit_bytes_total", "counter", "Bytes that left the network namespace of a running container.")
	read := m.define("hull_container_block_read_bytes_total", "counter", "Bytes that a running container read from block devices.")
	written := m.define("hull_container_block_write_bytes_total", "counter", "Bytes that a running container wrote to block devices.")
	stats, err := e.Stats(ctx, nil, nil)
	if err != nil {
		return err
	}
	slices.SortFunc(stats, func(a, b ContainerStats) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range stats {
		who := []string{"id", s.ContainerID, "name", s.Name}
		cpu.add(float64(s.CPUNano)/float64(time.Second), who...)
		memory.add(float64(s.MemUsage), who...)
		limit.add(float64(s.MemLimit), who...)
		pids.add(float64(s.PIDs), who...)
		in.add(float64(s.NetInput), who...)
		out.add(float64(s.NetOutput), who...)
		read.add(float64(s.BlockInput), who...)
		written.add(float64(s.BlockOutput), who...)
	}
	return nil
}

func (e *Engine) podMetrics(ctx context.Context, m *metrics) error {
	info := m.define("hull_pod_state", "gauge", "1 for the state that a pod is in.")
	count := m.define("hull_pod_containers", "gauge", "Containers of a pod, by state.")
	pods, err := e.PodList(ctx, nil)
	if err != nil {
		return err
	}
	slices.SortFunc(pods, func(a, b PodEntry) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range pods {
		info.add(1, "id", p.ID, "name", p.Name, "state", strings.ToLower(p.Status))
		states := map[string]int{}
		for _, c := range p.Containers {
			states[c.Status]++
		}
		for _, s := range slices.Sorted(maps.Keys(states)) {
			count.add(float64(states[s]), "id", p.ID, "name", p.Name, "state", s)
		}
	}
	return nil
}

func (e *Engine) storeMetrics(ctx context.Context, m *metrics) error {
	use, err := e.DiskUsage(ctx)
	if err != nil {
		return err
	}
	objects := m.define("hull_store_objects", "gauge", "Objects in the store, by kind.")
	active := m.define("hull_store_active_objects", "gauge", "Objects in the store that are in use, by kind.")
	size := m.define("hull_store_bytes", "gauge", "Size of the objects in the store, by kind.")
	free := m.define("hull_store_reclaimable_bytes", "gauge", "What prune would give back, by kind.")
	for _, u := range use {
		kind := strings.ToLower(strings.ReplaceAll(u.Type, " ", "_"))
		objects.add(float64(u.Total), "kind", kind)
		active.add(float64(u.Active), "kind", kind)
		size.add(float64(u.RawSize), "kind", kind)
		free.add(float64(u.Reclaimable), "kind", kind)
	}
	return nil
}
