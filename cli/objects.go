package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hull/command"
	"hull/engine"
	"hull/format"
)

// objectNodes are the commands that look at containers and other objects or
// move files in and out of them.
func (s *session) objectNodes() []command.Node {
	nodes := []command.Node{
		{Path: "inspect", Short: "Display the configuration of object denoted by ID", Build: s.inspect},
		{Path: "version", Short: "Display the version information", Build: s.version},
		{Path: "unshare", Short: "Run a command in a modified user namespace", Build: s.unshare},
		{Path: "container checkpoint", Short: "Checkpoint one or more containers", Build: s.containerCheckpoint},
		{Path: "container cleanup", Short: "Clean up network and mountpoints of one or more containers", Build: s.containerCleanup},
		{Path: "container clone", Short: "Clone an existing container", Build: s.containerClone},
		{Path: "container exists", Short: "Check if a container exists in local storage", Build: s.containerExists},
		{Path: "container inspect", Short: "Display the configuration of a container", Build: s.containerInspect},
		{Path: "container restore", Short: "Restore one or more containers from a checkpoint", Build: s.containerRestore},
		{Path: "container runlabel", Short: "Execute the command described by an image label", Build: s.runlabel},
		{Path: "container prune", Short: "Remove all non running containers", Build: s.containerPrune},
	}
	for _, n := range []struct {
		name, short string
		build       func() *command.Command
	}{
		{"commit", "Create new image based on the changed container", s.commit},
		{"cp", "Copy files/folders between a container and the local filesystem", s.cp},
		{"diff", "Inspect changes to the container's file system", s.diff},
		{"export", "Export container's filesystem contents as a tar archive", s.export},
		{"port", "List port mappings or a specific mapping for the container", s.port},
		{"stats", "Display a live stream of container resource usage statistics", s.stats},
		{"top", "Display the running processes of a container", s.top},
		{"update", "Update an existing container", s.update},
	} {
		nodes = append(nodes, command.Node{Path: n.name, Short: n.short, Build: n.build},
			command.Node{Path: "container " + n.name, Short: n.short, Build: n.build})
	}
	nodes = append(nodes, s.mountNodes()...)
	nodes = append(nodes, s.secretNodes()...)
	nodes = append(nodes, s.volumeNodes()...)
	nodes = append(nodes, s.networkNodes()...)
	nodes = append(nodes, s.podNodes()...)
	nodes = append(nodes, s.quadletNodes()...)
	nodes = append(nodes, s.generateNodes()...)
	return append(nodes, s.systemNodes()...)
}

// inspectFlags are those of every inspect.
type inspectFlags struct {
	format, kind string
	size, latest bool
}

// showObjects prints what inspect found: JSON, or a template for each.
func (s *session) showObjects(found []any, text string) error {
	if text == "" || format.IsJSON(text) {
		return format.JSON(s.stdout, found, "     ")
	}
	// The peers' templates say .Id as their JSON does.
	text = strings.NewReplacer(".Id}", ".ID}", ".Id ", ".ID ").Replace(text)
	t, err := format.Parse("inspect", text)
	if err != nil {
		return err
	}
	for _, o := range found {
		if err := t.One(s.stdout, o); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) inspect() *command.Command {
	var o inspectFlags
	return &command.Command{
		Usage: "[options] {CONTAINER|IMAGE|NETWORK|POD|VOLUME} [...]",
		Long: "Displays the low-level information on containers and images identified by name or ID.\n" +
			"If given a name that matches both a container and an image, the container inspect is displayed.",
		Examples: []string{"inspect fedora", "inspect --type image fedora", "inspect CtrID ImgID", "inspect --format \"imageId: {{.Id}} size: {{.Size}}\" fedora"},
		Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			f.StringVarP(&o.format, "format", "f", "json", "Format the output to a Go template or json")
			f.BoolVarP(&o.latest, "latest", "l", false, "Act on the latest container")
			f.BoolVarP(&o.size, "size", "s", false, "Display total file size")
			f.StringVarP(&o.kind, "type", "t", "all", "Specify inspect-object type")
			f.Words("type", "all", "container", "image", "network", "pod", "volume")
			f.Completion("format", completeFormat(engine.ContainerInspect{}))
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if args, err = withLatest(ctx, e, o.latest, args); err != nil {
				return err
			}
			if len(args) == 0 {
				return errors.New("no names or ids specified")
			}
			return s.inspectAll(args, o, func(name string) (any, error) { return s.find(ctx, e, o, name) })
		},
	}
}

// inspectAll shows what is found even when another name is not.
func (s *session) inspectAll(args []string, o inspectFlags, find func(name string) (any, error)) error {
	found := []any{}
	var errs []error
	for _, name := range args {
		v, err := find(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, v)
	}
	if err := s.showObjects(found, o.format); err != nil {
		return err
	}
	return errors.Join(errs...)
}

// find looks for an object of the kind that was asked for; of "all" the first
// that has the name.
func (s *session) find(ctx context.Context, e *engine.Engine, o inspectFlags, name string) (any, error) {
	kinds := []struct {
		kind string
		find func() (any, error)
	}{
		{"container", func() (any, error) { return e.Inspect(ctx, name, o.size) }},
		{"image", func() (any, error) { return e.InspectImage(ctx, name) }},
		{"volume", func() (any, error) { return e.VolumeInspect(ctx, name) }},
		{"network", func() (any, error) { return s.inspectNetwork(ctx, e, name) }},
		{"pod", func() (any, error) { return e.PodInspect(ctx, name) }},
	}
	for _, k := range kinds {
		if o.kind != "all" && o.kind != k.kind {
			continue
		}
		v, err := k.find()
		if err == nil || o.kind == k.kind || !isNotFound(err) {
			return v, err
		}
	}
	if o.kind != "all" {
		return nil, fmt.Errorf("%q is not a type of object: choose all, container, image, network, pod or volume", o.kind)
	}
	return nil, fmt.Errorf("no such object: %q: %w", name, engine.ErrNotFound)
}

func (s *session) containerInspect() *command.Command {
	var o inspectFlags
	return &command.Command{
		Usage:    "[options] CONTAINER [CONTAINER...]",
		Long:     "Displays the low-level information on a container identified by name or ID.",
		Examples: []string{"container inspect myCtr", "container inspect -l --format '{{.Id}} {{.Config.Labels}}'"},
		Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			f.StringVarP(&o.format, "format", "f", "json", "Format the output to a Go template or json")
			f.BoolVarP(&o.latest, "latest", "l", false, "Act on the latest container")
			f.BoolVarP(&o.size, "size", "s", false, "Display total file size")
			f.Completion("format", completeFormat(engine.ContainerInspect{}))
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if args, err = withLatest(ctx, e, o.latest, args); err != nil {
				return err
			}
			if len(args) == 0 {
				return errors.New("no containers specified")
			}
			return s.inspectAll(args, o, func(name string) (any, error) { return e.Inspect(ctx, name, o.size) })
		},
	}
}

func (s *session) containerExists() *command.Command {
	var external bool
	return &command.Command{
		Usage:    "[options] CONTAINER",
		Long:     "Ends with 0 when the container exists, with 1 when it does not.",
		Examples: []string{"container exists containerID"},
		Args:     command.Exactly(1),
		Complete: s.completeContainers(),
		Flags: func(f *command.Flags) {
			f.BoolVar(&external, "external", false, "Check external storage containers as well as the engine's; there are none")
		},
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			ok, err := e.Exists(ctx, args[0])
			return exists(ok, err)
		},
	}
}

func (s *session) containerPrune() *command.Command {
	var force bool
	var filters []string
	return &command.Command{
		Usage:    "[options]",
		Long:     "Removes all containers that do not run",
		Examples: []string{"container prune", "container prune --force"},
		Args:     command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringArrayVar(&filters, "filter", nil, "Provide filter values (e.g. 'label=<key>=<value>')")
			f.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation.  The default is false")
		},
		Run: func(ctx context.Context, _ []string) error {
			parsed, err := engine.ParseFilters(filters)
			if err != nil {
				return err
			}
			if !force {
				ok, err := s.confirm("WARNING! This will remove all non running containers.\nAre you sure you want to continue? [y/N] ")
				if err != nil || !ok {
					return err
				}
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			removed, err := e.Prune(ctx, parsed)
			if err != nil {
				return err
			}
			return s.printRemoved(removed)
		},
	}
}
