package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	"hull/command"
	"hull/engine"
	"hull/image"
)

// runlabelOptions are the flags of runlabel.
type runlabelOptions struct {
	pull                    pullFlags
	display, replace, quiet bool
	name                    string
}

func (s *session) runlabel() *command.Command {
	var o runlabelOptions
	return &command.Command{
		Usage: "[options] LABEL IMAGE [ARG...]",
		Long: "Executes the command that an image describes in a label. It must be one of " + s.program + "'s (podman and docker are other names for it):\n" +
			"an image does not run programs of the host. In it IMAGE and NAME, also as $IMAGE, ${NAME} and so on, stand for the image and the container's name.",
		Examples:     []string{"container runlabel run imageID", "container runlabel install imageID arg1 arg2", "container runlabel --display run myImage"},
		Args:         command.AtLeast(2),
		ArgsEndFlags: true,
		Flags: func(f *command.Flags) {
			p := &o.pull
			f.StringVar(&p.authFile, "authfile", "", "Path of the authentication file. Use REGISTRY_AUTH_FILE environment variable to override")
			f.StringVar(&p.certDir, "cert-dir", "", "Path to a directory containing TLS certificates and keys")
			f.StringVar(&p.creds, "creds", "", "Credentials (USERNAME:PASSWORD) to use for authenticating to a registry")
			f.BoolVar(&o.display, "display", false, "Preview the command that the label would run")
			f.StringVarP(&o.name, "name", "n", "", "Assign a name to the container")
			f.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress output information when pulling images")
			f.BoolVar(&o.replace, "replace", false, "Replace existing container with a new one from the image")
			command.Optional(f, &p.tlsVerify, "tls-verify", "", "bool", "Require HTTPS and verify certificates when contacting registries", strconv.ParseBool)
			f.Lookup("tls-verify").NoOptDefVal = "true"
		},
		Run: func(ctx context.Context, args []string) error {
			img, err := s.imageOrPull(ctx, args[1], o)
			if err != nil {
				return err
			}
			text, ok := img.Config.Config.Labels[args[0]]
			if !ok {
				return fmt.Errorf("cannot find the value of label: %s in image: %s", args[0], args[1])
			}
			words, err := labelCommand(text, args[1], img, o.name)
			if err != nil {
				return fmt.Errorf("label %s of image %s: %w", args[0], args[1], err)
			}
			words = append(words, args[2:]...)
			if o.replace && (words[0] == "run" || words[0] == "create") {
				words = append([]string{words[0], "--replace"}, words[1:]...)
			}
			if o.display {
				fmt.Fprintln(s.stdout, command.Printable("command: "+s.program+" "+strings.Join(words, " ")))
				return nil
			}
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find the own executable: %w", err)
			}
			argv := append(append([]string{s.program}, s.globals.Argv()...), words...)
			return fmt.Errorf("execute %s: %w", self, syscall.Exec(self, argv, os.Environ()))
		},
	}
}

// imageOrPull finds an image, here or in its registry.
func (s *session) imageOrPull(ctx context.Context, name string, o runlabelOptions) (image.Image, error) {
	store, img, err := s.imageStore(ctx, name)
	if !errors.Is(err, image.ErrNotFound) {
		return img, err
	}
	if err := s.pull(ctx, engine.PullRequest{Name: name, Quiet: o.quiet}, o.pull); err != nil {
		return image.Image{}, err
	}
	return store.Resolve(ctx, name)
}

// labelCommand is the command of a label, without the program's name.
func labelCommand(text, asked string, img image.Image, name string) ([]string, error) {
	full := asked
	for _, n := range img.Names {
		if full == asked || n.Tag != "" {
			full = n.String()
		}
	}
	if name == "" {
		name, _, _ = strings.Cut(path.Base(full), "@")
		name, _, _ = strings.Cut(name, ":")
	}
	words, err := image.Words(text)
	if err != nil {
		return nil, err
	}
	if len(words) < 2 {
		return nil, fmt.Errorf("%q is no command", text)
	}
	switch path.Base(words[0]) {
	case "podman", "docker", "hull":
	default:
		return nil, fmt.Errorf("it runs %q, a program of the host", words[0])
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	known := map[string]string{"NAME": name, "IMAGE": full, "PWD": dir}
	var out []string
	for _, w := range words[1:] {
		was := w
		switch w {
		case "IMAGE", "NAME":
			w = known[w]
		default:
			w = strings.NewReplacer("=IMAGE", "="+full, "=NAME", "="+name).Replace(w)
			w = os.Expand(w, func(k string) string { return known[k] })
		}
		if w != "" || was == "" {
			out = append(out, w)
		}
	}
	return out, nil
}
