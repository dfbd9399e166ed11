package cli

import (
	"context"
	"errors"
	"fmt"

	"hull/command"
	"hull/engine"
)

// podNodes are the commands on pods.
func (s *session) podNodes() []command.Node {
	return []command.Node{
		{Path: "pod", Short: "Manage pods"},
		{Path: "pod clone", Short: "Clone an existing pod", Build: s.podClone},
		{Path: "pod create", Short: "Create a new empty pod", Build: s.podCreate},
		{Path: "pod exists", Short: "Check if a pod exists in local storage", Build: s.podExists},
		{Path: "pod inspect", Short: "Display a pod's configuration", Build: s.podInspect},
		{Path: "pod kill", Short: "Send the specified signal or SIGKILL to containers in pod", Build: s.podKill},
		{Path: "pod logs", Short: "Fetch logs for pod with one or more containers", Build: s.podLogs},
		{Path: "pod ls", Short: "List pods", Build: s.podList, Hidden: true},
		{Path: "pod list", Short: "List pods", Build: s.podList, Hidden: true},
		{Path: "pod pause", Short: "Pause one or more pods", Build: s.podPause},
		{Path: "pod prune", Short: "Remove all stopped pods and their containers", Build: s.podPrune},
		{Path: "pod ps", Short: "List pods", Build: s.podList},
		{Path: "pod restart", Short: "Restart one or more pods", Build: s.podRestart},
		{Path: "pod rm", Short: "Remove one or more pods", Build: s.podRemove},
		{Path: "pod start", Short: "Start one or more pods", Build: s.podStart},
		{Path: "pod stats", Short: "Display a live stream of resource usage statistics for the containers in one or more pods", Build: s.podStats},
		{Path: "pod stop", Short: "Stop one or more pods", Build: s.podStop},
		{Path: "pod top", Short: "Display the running processes of containers in a pod", Build: s.podTop},
		{Path: "pod unpause", Short: "Unpause one or more pods", Build: s.podUnpause},
	}
}

// completePods proposes the names of pods.
func (s *session) completePods(ctx context.Context, _ []string, _ string) []string {
	e, err := s.open(ctx)
	if err != nil {
		return nil
	}
	all, err := e.PodList(ctx, nil)
	if err != nil {
		return nil
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	return names
}

// podSelection is which pods a command is about.
type podSelection struct {
	all, latest, ignore bool
	files               []string
}

// declare adds the flags: letters of which are a (all), l (latest), i (ignore)
// and f (pod-id-file).
func (x *podSelection) declare(f *command.Flags, which, all string) {
	for _, w := range which {
		switch w {
		case 'a':
			f.BoolVarP(&x.all, "all", "a", false, all)
		case 'l':
			f.BoolVarP(&x.latest, "latest", "l", false, "Act on the latest pod")
		case 'i':
			f.BoolVarP(&x.ignore, "ignore", "i", false, "Ignore errors when a specified pod is missing")
		case 'f':
			f.StringArrayVar(&x.files, "pod-id-file", nil, "Read the pod ID from the file")
		}
	}
}

// names are the pods chosen; states, when there are any, choose among all.
func (x *podSelection) names(ctx context.Context, e *engine.Engine, args []string, states ...string) ([]string, error) {
	args, err := readPodFiles(args, x.files)
	if err != nil {
		return nil, err
	}
	switch {
	case x.all && (x.latest || len(args) > 0), x.latest && len(args) > 0:
		return nil, errors.New("--all and --latest cannot be used with each other or with the names of pods")
	case x.latest:
		id, err := e.PodLatest(ctx)
		return []string{id}, err
	case !x.all:
		if len(args) == 0 {
			return nil, errors.New("you must provide at least one pod name or id")
		}
		return args, nil
	}
	var f engine.Filters
	if len(states) > 0 {
		f = engine.Filters{"status": states}
	}
	list, err := e.PodList(ctx, f)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, p := range list {
		ids = append(ids, p.ID)
	}
	return ids, nil
}

// actPods is the common shape of the verbs: resolve, do, print the pods' IDs.
func (s *session) actPods(ctx context.Context, x *podSelection, args, states []string, do func(e *engine.Engine, name string) (string, error)) error {
	e, err := s.open(ctx)
	if err != nil {
		return err
	}
	names, err := x.names(ctx, e, args, states...)
	if err != nil {
		return err
	}
	return each(names, func(name string) error {
		id, err := do(e, name)
		if x.ignore && errors.Is(err, engine.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(s.stdout, id)
		return nil
	})
}

func (s *session) podStart() *command.Command {
	var x podSelection
	return &command.Command{
		Usage: "[options] POD [POD...]", Long: "Starts pods: the pod name or ID can be used. All containers defined in the pod are started.",
		Examples: []string{"pod start podID", "pod start --latest", "pod start --all"},
		Complete: s.completePods,
		Flags:    func(f *command.Flags) { x.declare(f, "alf", "Start all pods") },
		Run: func(ctx context.Context, args []string) error {
			return s.actPods(ctx, &x, args, nil, func(e *engine.Engine, name string) (string, error) {
				id, err := e.PodStart(ctx, name)
				return id, withStartCode(err)
			})
		},
	}
}

func (s *session) podStop() *command.Command {
	var x podSelection
	var o stopFlags
	return &command.Command{
		Usage: "[options] POD [POD...]", Long: "Stops all running containers in each of the specified pods.",
		Examples: []string{"pod stop mywebserverpod", "pod stop --latest", "pod stop --time 0 490eb 3557fb"},
		Complete: s.completePods,
		Flags: func(f *command.Flags) {
			x.declare(f, "ailf", "Stop all running pods")
			o.declare(f, false)
		},
		Run: func(ctx context.Context, args []string) error {
			return s.actPods(ctx, &x, args, nil, func(e *engine.Engine, name string) (string, error) { return e.PodStop(ctx, name, o.options()) })
		},
	}
}

func (s *session) podRestart() *command.Command {
	var x podSelection
	return &command.Command{
		Usage: "[options] POD [POD...]", Long: "Restarts all containers within each of the specified pods. A container that does not run is started.",
		Examples: []string{"pod restart podID1 podID2", "pod restart --latest", "pod restart --all"},
		Complete: s.completePods,
		Flags:    func(f *command.Flags) { x.declare(f, "al", "Restart all running pods") },
		Run: func(ctx context.Context, args []string) error {
			return s.actPods(ctx, &x, args, []string{"running", "degraded"}, func(e *engine.Engine, name string) (string, error) {
				id, err := e.PodRestart(ctx, name)
				return id, withStartCode(err)
			})
		},
	}
}

func (s *session) podKill() *command.Command {
	var x podSelection
	var signal string
	return &command.Command{
		Usage: "[options] POD [POD...]", Long: "Sends SIGKILL, or the signal of --signal, to the main process of each container inside the specified pods.",
		Examples: []string{"pod kill podID", "pod kill --signal TERM mywebserver", "pod kill --latest"},
		Complete: s.completePods,
		Flags: func(f *command.Flags) {
			x.declare(f, "al", "Kill all containers in all pods")
			f.StringVarP(&signal, "signal", "s", "KILL", "Signal to send to the containers in the pod")
			f.Words("signal", "HUP", "INT", "QUIT", "KILL", "TERM", "USR1", "USR2")
		},
		Run: func(ctx context.Context, args []string) error {
			if _, err := engine.ParseSignal(signal); err != nil {
				return err
			}
			return s.actPods(ctx, &x, args, nil, func(e *engine.Engine, name string) (string, error) { return e.PodKill(ctx, name, signal) })
		},
	}
}

func (s *session) podPause() *command.Command {
	var x podSelection
	return &command.Command{
		Usage: "[options] POD [POD...]", Long: "Pauses all running containers within each specified pod.",
		Examples: []string{"pod pause podID1 podID2", "pod pause --latest", "pod pause --all"},
		Complete: s.completePods,
		Flags:    func(f *command.Flags) { x.declare(f, "al", "Pause all running pods") },
		Run: func(ctx context.Context, args []string) error {
			return s.actPods(ctx, &x, args, []string{"running", "degraded"}, func(e *engine.Engine, name string) (string, error) { return e.PodPause(ctx, name) })
		},
	}
}

func (s *session) podUnpause() *command.Command {
	var x podSelection
	return &command.Command{
		Usage: "[options] POD [POD...]", Long: "Unpauses all paused containers assigned to the pod.",
		Examples: []string{"pod unpause podID1 podID2", "pod unpause --all", "pod unpause --latest"},
		Complete: s.completePods,
		Flags:    func(f *command.Flags) { x.declare(f, "al", "Unpause all paused pods") },
		Run: func(ctx context.Context, args []string) error {
			return s.actPods(ctx, &x, args, []string{"paused", "degraded"}, func(e *engine.Engine, name string) (string, error) { return e.PodUnpause(ctx, name) })
		},
	}
}

func (s *session) podRemove() *command.Command {
	var x podSelection
	var o engine.PodRemoveOptions
	var stop stopFlags
	return &command.Command{
		Usage: "[options] POD [POD...]",
		Long: "Removes stopped pods and their containers from the host. The pod name or ID can be used.\n" +
			"A pod with running containers is not removed without --force, which stops them first.",
		Examples: []string{"pod rm mywebserverpod", "pod rm -f 860a4b23", "pod rm -f -a"},
		Complete: s.completePods,
		Flags: func(f *command.Flags) {
			x.declare(f, "ailf", "Remove all pods")
			f.BoolVarP(&o.Force, "force", "f", false, "Force removal of a running pod by first stopping all containers")
			stop.declare(f, false)
		},
		Run: func(ctx context.Context, args []string) error {
			if stop.timeout != nil && !o.Force {
				return errors.New("--force option must be specified to use the --time option")
			}
			o.Timeout = stop.timeout
			x.ignore = x.ignore || o.Force
			code := 0
			err := s.actPods(ctx, &x, args, nil, func(e *engine.Engine, name string) (string, error) {
				id, err := e.PodRemove(ctx, name, o)
				if err != nil && !(x.ignore && errors.Is(err, engine.ErrNotFound)) {
					code = max(code, removeCode(err))
				}
				return id, err
			})
			if code == 0 {
				return err
			}
			return command.WithCode(code, err)
		},
	}
}

func (s *session) podPrune() *command.Command {
	var force bool
	return &command.Command{
		Usage: "[options]", Long: "Removes all pods of which nothing runs any more, with their containers.", Args: command.NoArgs,
		Examples: []string{"pod prune"},
		Flags: func(f *command.Flags) {
			f.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation.  The default is false")
		},
		Run: func(ctx context.Context, _ []string) error {
			if !force {
				ok, err := s.confirm("WARNING! This will remove all stopped/exited pods.\nAre you sure you want to continue? [y/N] ")
				if err != nil || !ok {
					return err
				}
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			removed, err := e.PodPrune(ctx)
			errs := []error{err}
			for _, r := range removed {
				if r.Err != nil {
					errs = append(errs, r.Err)
					continue
				}
				fmt.Fprintln(s.stdout, r.ID)
			}
			return errors.Join(errs...)
		},
	}
}

func (s *session) podExists() *command.Command {
	return &command.Command{
		Usage: "POD", Long: "Ends with 0 when the pod exists, with 1 when it does not.",
		Examples: []string{"pod exists podID", "pod exists mypod || pod create --name mypod"},
		Args:     command.Exactly(1), Complete: s.completePods,
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			ok, err := e.PodExists(ctx, args[0])
			return exists(ok, err)
		},
	}
}
