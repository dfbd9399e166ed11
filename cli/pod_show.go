package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hull/command"
	"hull/engine"
	"hull/format"
)

func (s *session) podTop() *command.Command {
	var x podSelection
	return &command.Command{
		Usage:    "[options] POD [FORMAT-DESCRIPTORS|ARGS...]",
		Long:     "Displays the running processes of the containers in a pod. Descriptors are " + strings.Join(engine.TopColumns(), " ") + ".",
		Examples: []string{"pod top podID", "pod top --latest", "pod top podID pid seccomp args %C"},
		Complete: s.completePods, ArgsEndFlags: true,
		Flags: func(f *command.Flags) { x.declare(f, "l", "") },
		Run: func(ctx context.Context, args []string) error {
			if !x.latest && len(args) == 0 {
				return errors.New("you must provide the name or id of a running pod")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			pod, rest := "", args
			if x.latest {
				pod, err = e.PodLatest(ctx)
			} else {
				pod, rest = args[0], args[1:]
			}
			if err != nil {
				return err
			}
			rows, err := e.PodTop(ctx, pod, engine.TopOptions{Columns: rest})
			if err != nil {
				return err
			}
			return format.Table(s.stdout, rows[0], rows[1:])
		},
	}
}

// podStatsRow is what a template of pod stats sees.
type podStatsRow struct {
	statsRow
	pod string
}

func (r podStatsRow) Pod() string { return format.ShortID(r.pod) }
func (r podStatsRow) CID() string { return r.ID() }

// podStatsJSON are the names of pod stats --format json.
type podStatsJSON struct {
	CPU, MemUsage, MemUsageBytes, Mem, NetIO, BlockIO, PIDS, Pod, CID, Name string
}

func (s *session) podStats() *command.Command {
	var x podSelection
	var text string
	var noReset, noStream bool
	return &command.Command{
		Usage: "[options] [POD...]", Long: "Displays the containers' resource-usage statistics of one or more running pods.",
		Examples: []string{"pod stats", "pod stats a69b23034235 named-pod", "pod stats --latest", "pod stats --all"},
		Complete: s.completePods,
		Flags: func(f *command.Flags) {
			x.declare(f, "al", "Provide stats for all pods")
			f.StringVar(&text, "format", "", "Pretty-print container statistics to JSON or using a Go template")
			f.BoolVar(&noReset, "no-reset", false, "Disable resetting the screen when streaming")
			f.BoolVar(&noStream, "no-stream", false, "Disable streaming stats and only pull the first result")
			f.Completion("format", completeFormat(podStatsRow{}))
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			x.all = x.all || len(args) == 0 && !x.latest
			pods, err := x.names(ctx, e, args)
			if err != nil {
				return err
			}
			var before map[string]engine.ContainerStats
			for {
				rows, err := podStatsRows(ctx, e, pods, before)
				if err != nil {
					return err
				}
				if before != nil && !noReset && text == "" {
					fmt.Fprint(s.stdout, "\033[2J\033[1;1H")
				}
				if err := s.showPodStats(rows, text); err != nil || noStream {
					return err
				}
				before = map[string]engine.ContainerStats{}
				for _, r := range rows {
					before[r.ContainerID] = r.ContainerStats
				}
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(5 * time.Second):
				}
			}
		},
	}
}

func podStatsRows(ctx context.Context, e *engine.Engine, pods []string, before map[string]engine.ContainerStats) ([]podStatsRow, error) {
	var rows []podStatsRow
	for _, pod := range pods {
		p, err := e.PodInspect(ctx, pod)
		if err != nil {
			return nil, err
		}
		ids, err := e.PodContainers(ctx, p.ID, true)
		if err != nil || len(ids) == 0 {
			return rows, err
		}
		list, err := e.Stats(ctx, ids, before)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			rows = append(rows, podStatsRow{statsRow{c}, p.ID})
		}
	}
	return rows, nil
}

func (s *session) showPodStats(rows []podStatsRow, text string) error {
	switch {
	case format.IsJSON(text):
		out := make([]podStatsJSON, len(rows))
		for i, r := range rows {
			out[i] = podStatsJSON{r.CPUPerc(), r.MemUsage(), r.MemUsageBytes(), r.MemPerc(), r.NetIO(), r.BlockIO(), r.PIDS(), r.Pod(), r.CID(), r.Name}
		}
		return format.JSON(s.stdout, out, "     ")
	case text != "" && !format.IsTable(text):
		t, err := format.Parse("pod stats", text)
		if err != nil {
			return err
		}
		return t.Rows(s.stdout, rows, map[string]string{"CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET IO", "BlockIO": "BLOCK IO"}, false)
	}
	var lines [][]string
	for _, r := range rows {
		lines = append(lines, []string{r.Pod(), r.CID(), r.Name, r.CPUPerc(), r.MemUsage(), r.MemPerc(), r.NetIO(), r.BlockIO(), r.PIDS()})
	}
	return format.Table(s.stdout, []string{"POD", "CID", "NAME", "CPU %", "MEM USAGE/ LIMIT", "MEM %", "NET IO", "BLOCK IO", "PIDS"}, lines)
}

func (s *session) podLogs() *command.Command {
	var x podSelection
	var o logFlags
	var container string
	return &command.Command{
		Usage: "[options] POD", Long: "Displays the logs of a pod's containers, each line with its container's ID or name before it.",
		Examples: []string{"pod logs podID", "pod logs -c ctrname podName", "pod logs --tail 2 mywebserver", "pod logs --follow=true --since 10m podID"},
		Args:     command.AtMost(1), Complete: s.completePods,
		Flags: func(f *command.Flags) {
			x.declare(f, "l", "")
			o.declare(f, "n", "")
			f.StringVarP(&container, "container", "c", "", "Filter logs by container name or id which belongs to pod")
		},
		Run: func(ctx context.Context, args []string) error {
			if err := o.parse(); err != nil {
				return err
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			pods, err := x.names(ctx, e, args)
			if err != nil {
				return err
			}
			ids, err := e.PodContainers(ctx, pods[0], false)
			if err != nil {
				return err
			}
			if container != "" {
				id, err := e.Lookup(ctx, container)
				if err != nil {
					return err
				}
				if !slices.Contains(ids, id) {
					return fmt.Errorf("container %s is not in pod %s", container, pods[0])
				}
				ids = []string{id}
			}
			if len(ids) == 0 {
				return nil
			}
			return s.showLogs(ctx, e, ids, o.LogsOptions, o.names, o.color)
		},
	}
}
