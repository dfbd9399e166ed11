package cli

import (
	"context"
	"strings"

	"hull/command"
)

// imageNodes are the commands on local images: those at the top that people
// type, and all of them below "image".
func (s *session) imageNodes() []command.Node {
	nodes := []command.Node{{Path: "image", Short: "Manage images"}}
	for _, n := range []struct {
		top, below, short string
		build             func() *command.Command
	}{
		{"images", "ls", "List images in local storage", s.images},
		{"history", "history", "Show history of a specified image", s.history},
		{"import", "import", "Import a tarball to create a filesystem image", s.importImage},
		{"load", "load", "Load image(s) from a tar archive", s.load},
		{"rmi", "rm", "Remove one or more images from local storage", s.rmi},
		{"save", "save", "Save image(s) to an archive", s.save},
		{"tag", "tag", "Add an additional name to a local image", s.tag},
		{"untag", "untag", "Remove a name from a local image", s.untag},
		{"", "diff", "Inspect changes to the image's file systems", s.imageDiff},
		{"", "exists", "Check if an image exists in local storage", s.imageExists},
		{"", "inspect", "Display the configuration of an image", s.imageInspect},
		{"", "mount", "Mount an image's root filesystem", s.imageMount},
		{"", "prune", "Remove unused images", s.imagePrune},
		{"", "scp", "Copy an image between users and hosts without a registry", s.imageScp},
		{"", "tree", "Print layer hierarchy of an image in a tree format", s.imageTree},
		{"", "unmount", "Unmount an image's root filesystem", s.imageUnmount},
	} {
		if n.top != "" {
			nodes = append(nodes, command.Node{Path: n.top, Short: n.short, Build: n.build})
		}
		nodes = append(nodes, command.Node{Path: "image " + n.below, Short: n.short, Build: n.build})
	}
	for _, alias := range []struct {
		path  string
		build func() *command.Command
	}{{"image list", s.images}, {"image remove", s.rmi}, {"image umount", s.imageUnmount}} {
		nodes = append(nodes, command.Node{Path: alias.path, Short: "Same as " + map[string]string{
			"image list": "ls", "image remove": "rm", "image umount": "unmount"}[alias.path], Build: alias.build, Hidden: true})
	}
	return append(nodes, command.Node{Path: "oci bundle", Short: "Make an OCI runtime bundle of an image", Build: s.ociBundle, Over: true})
}

// completeImages proposes the names of the images that are here.
func (s *session) completeImages(ctx context.Context, args []string, toComplete string) []string {
	e, err := s.open(ctx)
	if err != nil {
		return nil
	}
	store, err := e.Images()
	if err != nil {
		return nil
	}
	images, _ := store.List(ctx)
	var words []string
	for _, img := range images {
		for _, n := range img.Names {
			for _, w := range []string{n.String(), n.Path[strings.LastIndexByte(n.Path, '/')+1:] + ":" + n.Tag} {
				if strings.HasPrefix(w, toComplete) {
					words = append(words, w)
				}
			}
		}
		if toComplete != "" && strings.HasPrefix(img.ID.Hex(), toComplete) {
			words = append(words, img.ID.Hex()[:12])
		}
	}
	return words
}
