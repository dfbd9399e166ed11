package clifull

import (
	"slices"

	"hull/command"
)

// tree is the table of the commands of this binary.
func (s *session) tree() *command.Tree {
	return &command.Tree{
		Program: s.program,
		Long:    "Run containers, pods and images without a daemon",
		Nodes:   s.nodes(),
		Globals: s.globals.Declare,
		Stdout:  s.stdout,
		Stderr:  s.stderr,
	}
}

func (s *session) nodes() []command.Node {
	nodes := []command.Node{
		{Path: "auto-update", Short: "Auto update containers according to their auto-update policy", Build: s.autoUpdate},
		{Path: "build", Short: "Build an image using instructions from Containerfiles", Build: s.build},
		{Path: "image build", Short: "Build an image using instructions from Containerfiles", Build: s.build},
		{Path: "buildx", Short: "Build images"},
		{Path: "buildx build", Short: "Build an image using instructions from Containerfiles", Build: s.build},
		{Path: "buildx bake", Short: "Build the images of a bake file", Build: s.bake},
		{Path: "builder", Short: "Manage builds"},
		{Path: "builder build", Short: "Build an image using instructions from Containerfiles", Build: s.build},
		{Path: "login", Short: "Log in to a container registry", Build: s.login},
		{Path: "logout", Short: "Log out of a container registry", Build: s.logout},
		{Path: "metrics", Short: "Print metrics of containers, pods and the store for Prometheus", Build: s.metrics},
		{Path: "pull", Short: "Pull an image from a registry", Build: s.pull},
		{Path: "push", Short: "Push an image to a specified destination", Build: s.push},
		{Path: "search", Short: "Search registry for image", Build: s.search},
		{Path: "image", Short: "Manage images"},
		{Path: "image pull", Short: "Pull an image from a registry", Build: s.pull},
		{Path: "image push", Short: "Push an image to a specified destination", Build: s.push},
		{Path: "image search", Short: "Search registry for image", Build: s.search},
	}
	nodes = append(nodes, command.Node{Path: "internal-fetch", Short: "Copy what a URL leads to", Build: s.fetch, Hidden: true},
		command.Node{Path: "internal-codec", Short: "Compress or decompress", Build: s.codec, Hidden: true},
		command.Node{Path: "internal-farm", Short: "Store what came from a farm", Build: s.farmInner, Hidden: true})
	return slices.Concat(nodes, s.artifactNodes(), s.buildxNodes(), s.connectionNodes(), s.kubeNodes(), s.manifestNodes(), s.registryNodes(), s.trustNodes())
}
