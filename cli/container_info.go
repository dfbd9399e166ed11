package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"hull/command"
	"hull/engine"
	"hull/format"
)

func (s *session) port() *command.Command {
	var x selection
	return &command.Command{
		Usage: "[options] CONTAINER [PORT]", Long: "List port mappings for the CONTAINER, or look up the public-facing port that is NAT-ed to the PRIVATE_PORT.",
		Examples: []string{"port --all", "port ctrID 80/tcp"},
		Args:     command.AtMost(2), Complete: s.completeContainers("running"),
		Flags: func(f *command.Flags) { x.declare(f, "al", "Display port information for all containers") },
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			want := ""
			switch {
			case x.all:
				return s.allPorts(ctx, e)
			case x.latest && len(args) > 0:
				want = args[0]
			case len(args) > 1:
				want = args[1]
			}
			name, _, err := x.one(ctx, e, args)
			if err != nil {
				return err
			}
			return s.showPorts(ctx, e, name, want, "")
		},
	}
}

func (s *session) allPorts(ctx context.Context, e *engine.Engine) error {
	all, err := e.List(ctx, engine.ListOptions{})
	if err != nil {
		return err
	}
	for _, c := range all {
		if err := s.showPorts(ctx, e, c.ID, "", format.ShortID(c.ID)+"\t"); err != nil {
			return err
		}
	}
	return nil
}

// showPorts prints 80/tcp -> 0.0.0.0:8080, or of one port the addresses alone.
func (s *session) showPorts(ctx context.Context, e *engine.Engine, name, want, prefix string) error {
	c, err := e.Inspect(ctx, name, false)
	if err != nil {
		return err
	}
	if want != "" && !strings.Contains(want, "/") {
		want += "/tcp"
	}
	var keys []string
	for k, v := range c.NetworkSettings.Ports {
		if len(v) > 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b string) int {
		x, _, _ := strings.Cut(a, "/")
		y, _, _ := strings.Cut(b, "/")
		m, _ := strconv.Atoi(x)
		n, _ := strconv.Atoi(y)
		return m - n
	})
	found := false
	for _, k := range keys {
		if want != "" && k != want {
			continue
		}
		for _, p := range c.NetworkSettings.Ports[k] {
			found = true
			host := p.HostIP
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			if want != "" {
				fmt.Fprintf(s.stdout, "%s%s:%s\n", prefix, host, p.HostPort)
			} else {
				fmt.Fprintf(s.stdout, "%s%s -> %s:%s\n", prefix, k, host, p.HostPort)
			}
		}
	}
	if want != "" && !found {
		return fmt.Errorf("failed to find published port %q", want)
	}
	return nil
}

func (s *session) top() *command.Command {
	var x selection
	var list bool
	return &command.Command{
		Usage:    "[options] CONTAINER [FORMAT-DESCRIPTORS|ARGS...]",
		Long:     "Displays the running processes of a container. Descriptors are " + strings.Join(engine.TopColumns(), " ") + ".",
		Examples: []string{"top ctrID", "top ctrID pid seccomp args %C", "top ctrID -eo user,pid,comm"},
		Complete: s.completeContainers("running"), ArgsEndFlags: true,
		Flags: func(f *command.Flags) {
			x.declare(f, "l", "")
			f.BoolVar(&list, "list-descriptors", false, "")
			f.Hide("list-descriptors")
		},
		Run: func(ctx context.Context, args []string) error {
			if list {
				fmt.Fprintln(s.stdout, strings.Join(engine.TopColumns(), "\n"))
				return nil
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			name, rest, err := x.one(ctx, e, args)
			if err != nil {
				return err
			}
			rows, err := e.Top(ctx, name, engine.TopOptions{Columns: rest})
			if err != nil {
				return err
			}
			return format.Table(s.stdout, rows[0], rows[1:])
		},
	}
}

// statsRow is what a template of stats sees.
type statsRow struct{ engine.ContainerStats }

func (r statsRow) ID() string        { return format.ShortID(r.ContainerID) }
func (r statsRow) Container() string { return r.ContainerID }
func (r statsRow) CPUPerc() string   { return format.Percent(r.CPU) }
func (r statsRow) AVGCPU() string    { return format.Percent(r.AvgCPU) }
func (r statsRow) MemUsage() string  { return pair(r.ContainerStats.MemUsage, r.MemLimit) }
func (r statsRow) MemUsageBytes() string {
	return strconv.FormatUint(r.ContainerStats.MemUsage, 10) + "B / " + strconv.FormatUint(r.MemLimit, 10) + "B"
}
func (r statsRow) MemPerc() string { return format.Percent(r.ContainerStats.MemPerc) }
func (r statsRow) Mem() string     { return r.MemPerc() }
func (r statsRow) NetIO() string   { return pair(r.NetInput, r.NetOutput) }
func (r statsRow) BlockIO() string { return pair(r.BlockInput, r.BlockOutput) }
func (r statsRow) PIDS() string    { return strconv.FormatUint(r.ContainerStats.PIDs, 10) }
func (r statsRow) PIDs() string    { return r.PIDS() }
func (r statsRow) UpTime() string  { return r.ContainerStats.UpTime.Truncate(time.Microsecond).String() }
func (r statsRow) Up() string      { return r.UpTime() }

func pair(a, b uint64) string {
	return format.ShortSize(int64(a)) + " / " + format.ShortSize(int64(b))
}

// statsJSON are the names of stats --format json.
type statsJSON struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	CPUTime  string `json:"cpu_time"`
	CPU      string `json:"cpu_percent"`
	AvgCPU   string `json:"avg_cpu"`
	MemUsage string `json:"mem_usage"`
	Mem      string `json:"mem_percent"`
	NetIO    string `json:"net_io"`
	BlockIO  string `json:"block_io"`
	PIDs     string `json:"pids"`
}

// statsFlags are the flags of stats.
type statsFlags struct {
	selection
	all, noReset, noStream, noTrunc bool
	interval                        int
	format                          string
}

func (s *session) stats() *command.Command {
	var o statsFlags
	return &command.Command{
		Usage: "[options] [CONTAINER...]", Long: "Display percentage of CPU, memory, network I/O, block I/O and PIDs for one or more containers.",
		Examples: []string{"stats --all --no-stream", "stats ctrID", "stats --no-stream --format \"table {{.ID}} {{.Name}} {{.MemUsage}}\" ctrID"},
		Complete: s.completeContainers("running"),
		Flags: func(f *command.Flags) {
			f.BoolVarP(&o.all, "all", "a", false, "Show all containers. Only running containers are shown by default")
			f.StringVar(&o.format, "format", "", "Pretty-print container statistics to JSON or using a Go template")
			f.IntVarP(&o.interval, "interval", "i", 5, "Time in seconds between stats reports")
			o.declare(f, "l", "")
			f.BoolVar(&o.noReset, "no-reset", false, "Disable resetting the screen between intervals")
			f.BoolVar(&o.noStream, "no-stream", false, "Disable streaming stats and only pull the first result, default setting is false")
			f.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate output")
			f.Completion("format", completeFormat(statsRow{}))
		},
		Run: func(ctx context.Context, args []string) error {
			if o.interval < 1 {
				return errors.New("invalid interval, must be a positive number greater zero")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if args, err = withLatest(ctx, e, o.latest, args); err != nil {
				return err
			}
			if o.all && len(args) == 0 {
				list, err := e.List(ctx, engine.ListOptions{All: true})
				if err != nil {
					return err
				}
				for _, c := range list {
					args = append(args, c.ID)
				}
			}
			return s.streamStats(ctx, e, args, &o)
		},
	}
}

func (s *session) streamStats(ctx context.Context, e *engine.Engine, names []string, o *statsFlags) error {
	var before map[string]engine.ContainerStats
	for first := true; ; first = false {
		list, err := e.Stats(ctx, names, before)
		if err != nil {
			return err
		}
		if !first && !o.noReset && o.format == "" && term.IsTerminal(int(s.stdout.Fd())) {
			io.WriteString(s.stdout, "\033[2J\033[1;1H")
		}
		if err := s.showStats(list, o); err != nil || o.noStream {
			return err
		}
		before = make(map[string]engine.ContainerStats, len(list))
		for _, c := range list {
			before[c.ContainerID] = c
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(o.interval) * time.Second):
		}
	}
}

func (s *session) showStats(list []engine.ContainerStats, o *statsFlags) error {
	rows := make([]statsRow, len(list))
	for i := range list {
		rows[i] = statsRow{list[i]}
	}
	id := func(r statsRow) string {
		if o.noTrunc {
			return r.ContainerID
		}
		return r.ID()
	}
	switch {
	case format.IsJSON(o.format):
		out := make([]statsJSON, len(rows))
		for i, r := range rows {
			out[i] = statsJSON{id(r), r.Name, time.Duration(r.CPUNano).String(), r.CPUPerc(), r.AVGCPU(), r.MemUsage(), r.MemPerc(), r.NetIO(), r.BlockIO(), r.PIDS()}
		}
		return format.JSON(s.stdout, out, " ")
	case o.format != "" && !format.IsTable(o.format):
		t, err := format.Parse("stats", o.format)
		if err != nil {
			return err
		}
		return t.Rows(s.stdout, rows, map[string]string{"CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET IO", "BlockIO": "BLOCK IO"}, false)
	}
	var lines [][]string
	for _, r := range rows {
		lines = append(lines, []string{id(r), r.Name, r.CPUPerc(), r.MemUsage(), r.MemPerc(), r.NetIO(), r.BlockIO(), r.PIDS(), time.Duration(r.CPUNano).String(), r.AVGCPU()})
	}
	return format.Table(s.stdout, []string{"ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET IO", "BLOCK IO", "PIDS", "CPU TIME", "AVG CPU %"}, lines)
}
