package cli

import (
	"context"
	"slices"

	"hull/command"
)

// tree is the table of all commands, in the order in which help lists them.
func (s *session) tree() *command.Tree {
	return &command.Tree{
		Program: s.program,
		Long:    "Run containers, pods and images without a daemon",
		Nodes:   slices.Concat(s.containerNodes(), s.objectNodes(), s.imageNodes(), s.builderNodes(), fullNodes, s.ociNodes(), s.innerNodes()),
		Globals: s.globals.Declare,
		Handoff: s.handoff,
		Stdout:  s.stdout,
		Stderr:  s.stderr,
	}
}

// containerNodes are the commands of a container's life: each at the top, as
// people type it, and below "container".
func (s *session) containerNodes() []command.Node {
	top := []command.Node{
		{Path: "attach", Short: "Attach to a running container", Build: s.attach},
		{Path: "create", Short: "Create but do not start a container", Build: s.create},
		{Path: "debug", Short: "Open a shell with tools beside a container that has none", Build: s.debug},
		{Path: "exec", Short: "Run a process in a running container", Build: s.exec},
		{Path: "explain", Short: "Print the steps and system calls of a start without doing them", Build: s.explain},
		{Path: "init", Short: "Initialize one or more containers", Build: s.init},
		{Path: "kill", Short: "Kill one or more running containers with a specific signal", Build: s.kill},
		{Path: "logs", Short: "Fetch the logs of one or more containers", Build: s.logs},
		{Path: "pause", Short: "Pause all the processes in one or more containers", Build: s.pause},
		{Path: "ps", Short: "List containers", Build: s.ps},
		{Path: "rename", Short: "Rename an existing container", Build: s.rename},
		{Path: "restart", Short: "Restart one or more containers", Build: s.restart},
		{Path: "rm", Short: "Remove one or more containers", Build: s.rm},
		{Path: "rsh", Short: "Open the shell that a running container has", Build: s.rsh},
		{Path: "run", Short: "Run a command in a new container", Build: s.run},
		{Path: "start", Short: "Start one or more containers", Build: s.start},
		{Path: "stop", Short: "Stop one or more containers", Build: s.stop},
		{Path: "unpause", Short: "Unpause the processes in one or more containers", Build: s.unpause},
		{Path: "wait", Short: "Block on one or more containers", Build: s.wait},
	}
	all := slices.Concat(top, []command.Node{{Path: "container", Short: "Manage containers"}})
	for _, n := range top {
		if n.Path == "explain" {
			continue
		}
		n.Path = "container " + n.Path
		all = append(all, n)
	}
	for _, alias := range []string{"container ls", "container list"} {
		all = append(all, command.Node{Path: alias, Short: "List containers", Build: s.ps, Hidden: alias == "container list"})
	}
	return all
}

// fullNodes are the commands that reach registries: hull-full has them.
var fullNodes = []command.Node{
	{Path: "artifact", Short: "Manage OCI artifacts"},
	{Path: "artifact add", Short: "Add an OCI artifact to the local store", Elsewhere: true},
	{Path: "artifact extract", Short: "Extract an OCI artifact to a local path", Elsewhere: true},
	{Path: "artifact inspect", Short: "Inspect an OCI artifact", Elsewhere: true},
	{Path: "artifact list", Short: "List OCI artifacts in the local store", Elsewhere: true, Hidden: true},
	{Path: "artifact ls", Short: "List OCI artifacts in the local store", Elsewhere: true},
	{Path: "artifact pull", Short: "Pull an OCI artifact from a registry and store it locally", Elsewhere: true},
	{Path: "artifact push", Short: "Push an OCI artifact from local storage to a registry", Elsewhere: true},
	{Path: "artifact remove", Short: "Remove one or more OCI artifacts from local storage", Elsewhere: true, Hidden: true},
	{Path: "artifact rm", Short: "Remove one or more OCI artifacts from local storage", Elsewhere: true},
	{Path: "auto-update", Short: "Auto update containers according to their auto-update policy", Elsewhere: true},
	{Path: "build", Short: "Build an image using instructions from Containerfiles", Elsewhere: true},
	{Path: "image build", Short: "Build an image using instructions from Containerfiles", Elsewhere: true},
	{Path: "buildx", Short: "Build images"},
	{Path: "buildx build", Short: "Build an image using instructions from Containerfiles", Elsewhere: true},
	{Path: "buildx bake", Short: "Build the images of a bake file", Elsewhere: true},
	{Path: "buildx create", Short: "Accept the name of a builder", Elsewhere: true},
	{Path: "buildx imagetools", Short: "Commands on images in registries"},
	{Path: "buildx imagetools create", Short: "Make an image index in a registry of images there", Elsewhere: true},
	{Path: "buildx imagetools inspect", Short: "Show an image in a registry", Elsewhere: true},
	{Path: "buildx inspect", Short: "Show the builder", Elsewhere: true},
	{Path: "buildx ls", Short: "List the builder", Elsewhere: true},
	{Path: "buildx use", Short: "Accept the name of a builder to use", Elsewhere: true},
	{Path: "buildx version", Short: "Show the version", Elsewhere: true},
	{Path: "builder", Short: "Manage builds"},
	{Path: "builder build", Short: "Build an image using instructions from Containerfiles", Elsewhere: true},
	{Path: "farm", Short: "Build images on several hosts, each for its own platform"},
	{Path: "farm build", Short: "Build an image on the hosts of a farm, as one manifest list", Elsewhere: true},
	{Path: "farm create", Short: "Create a farm of connections", Elsewhere: true},
	{Path: "farm list", Short: "List farms", Elsewhere: true},
	{Path: "farm ls", Short: "List farms", Elsewhere: true, Hidden: true},
	{Path: "farm remove", Short: "Remove one or more farms", Elsewhere: true},
	{Path: "farm rm", Short: "Remove one or more farms", Elsewhere: true, Hidden: true},
	{Path: "farm update", Short: "Change the connections of a farm", Elsewhere: true},
	{Path: "system connection", Short: "Manage the hosts that hull is called on by ssh"},
	{Path: "system connection add", Short: "Record how to reach another host", Elsewhere: true},
	{Path: "system connection default", Short: "Set the default connection", Elsewhere: true},
	{Path: "system connection list", Short: "List connections", Elsewhere: true},
	{Path: "system connection ls", Short: "List connections", Elsewhere: true, Hidden: true},
	{Path: "system connection remove", Short: "Remove a connection", Elsewhere: true},
	{Path: "system connection rm", Short: "Remove a connection", Elsewhere: true, Hidden: true},
	{Path: "system connection rename", Short: "Rename a connection", Elsewhere: true},
	{Path: "kube", Short: "Play containers, pods or volumes from a structured file"},
	{Path: "kube down", Short: "Remove pods based on Kubernetes YAML", Elsewhere: true},
	{Path: "kube generate", Short: "Generate Kubernetes YAML from containers, pods or volumes", Elsewhere: true},
	{Path: "kube play", Short: "Play a pod or volume based on Kubernetes YAML", Elsewhere: true},
	{Path: "generate kube", Short: "Generate Kubernetes YAML from containers, pods or volumes", Elsewhere: true, Hidden: true},
	{Path: "play", Short: "Play containers, pods or volumes from a structured file", Hidden: true},
	{Path: "play kube", Short: "Play a pod or volume based on Kubernetes YAML", Elsewhere: true, Hidden: true},
	{Path: "login", Short: "Log in to a container registry", Elsewhere: true},
	{Path: "logout", Short: "Log out of a container registry", Elsewhere: true},
	{Path: "metrics", Short: "Print metrics of containers, pods and the store for Prometheus", Elsewhere: true},
	{Path: "pull", Short: "Pull an image from a registry", Elsewhere: true},
	{Path: "push", Short: "Push an image to a specified destination", Elsewhere: true},
	{Path: "search", Short: "Search registry for image", Elsewhere: true},
	{Path: "image pull", Short: "Pull an image from a registry", Elsewhere: true},
	{Path: "image push", Short: "Push an image to a specified destination", Elsewhere: true},
	{Path: "image search", Short: "Search registry for image", Elsewhere: true},
	{Path: "registry", Short: "Run a registry of one's own"},
	{Path: "registry serve", Short: "Serve a registry from a directory", Elsewhere: true},
	{Path: "image sign", Short: "Sign an image", Elsewhere: true},
	{Path: "image trust", Short: "Manage container image trust policy"},
	{Path: "image trust set", Short: "Set default trust policy or a new trust policy for a registry", Elsewhere: true},
	{Path: "image trust show", Short: "Display trust policy for the system", Elsewhere: true},
	{Path: "manifest", Short: "Manipulate manifest lists and image indexes"},
	{Path: "manifest add", Short: "Add images to a manifest list or image index", Elsewhere: true},
	{Path: "manifest annotate", Short: "Add or update information about an entry in a manifest list", Elsewhere: true},
	{Path: "manifest create", Short: "Create manifest list or image index", Elsewhere: true},
	{Path: "manifest exists", Short: "Check if a manifest list exists in local storage", Elsewhere: true},
	{Path: "manifest inspect", Short: "Display the contents of a manifest list or image index", Elsewhere: true},
	{Path: "manifest push", Short: "Push a manifest list or image index to a registry", Elsewhere: true},
	{Path: "manifest remove", Short: "Remove an entry from a manifest list or image index", Elsewhere: true},
	{Path: "manifest rm", Short: "Remove manifest list or image index from local storage", Elsewhere: true},
}

// innerNodes are what the engine calls itself by.
func (s *session) innerNodes() []command.Node {
	return []command.Node{
		{Path: "internal-cleanup", Short: "Clean up after a container that has exited", Build: s.cleanup, Hidden: true},
		{Path: "internal-runtime", Short: "Start a container by another OCI runtime", Build: s.foreignStart, Hidden: true},
		{Path: "internal-restore", Short: "Let the processes of a checkpoint go on", Build: s.restoreStart, Hidden: true},
		{Path: "internal-health", Short: "Check a container's health for as long as it runs", Build: s.watchHealth, Hidden: true},
		{Path: "boot", Short: "Start containers by their restart policy, once after a boot", Build: s.boot},
		{Path: "healthcheck", Short: "Manage health checks on containers"},
		{Path: "healthcheck run", Short: "Run the health check of a container", Build: s.healthcheck},
	}
}

// cleanup is what a monitor becomes when its container has exited.
func (s *session) cleanup() *command.Command {
	return &command.Command{
		Usage: "ID",
		Args:  command.Exactly(1),
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			code := e.LastExit(args[0])
			if err := e.Cleanup(ctx, args[0]); err != nil {
				return err
			}
			if code != 0 {
				// To systemd this is the end of the service's process.
				return &command.Exit{Code: code}
			}
			return nil
		},
	}
}
