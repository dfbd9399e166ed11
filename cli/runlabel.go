package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"

	"hull/command"
	"hull/engine"
	"hull/image"
)

// runlabel runs the command line that an image has in a label.
func (s *session) runlabel() *command.Command {
	var name string
	var display, quiet, replace bool
	var p pullFlags
	opts := make([]string, 3)
	return &command.Command{
		Usage: "[options] LABEL IMAGE [ARG...]",
		Long: "Runs the command that an image's label holds, which is one of this program: its first word is not looked at.\n" +
			"The words IMAGE and NAME mean the image and the container's name; ARGs are added at the end.",
		Examples:     []string{"container runlabel run imageID", "container runlabel --display run myImage"},
		Args:         command.AtLeast(2),
		ArgsEndFlags: true,
		Flags: func(f *command.Flags) {
			p.declare(f)
			f.BoolVar(&display, "display", false, "Print the command that the label would run")
			f.StringVarP(&name, "name", "n", "", "Name of the container; the image's without one")
			f.BoolVarP(&quiet, "quiet", "q", false, "Suppress output of a pull")
			f.BoolVar(&replace, "replace", false, "Replace a container of that name")
			f.StringVar(&opts[0], "opt1", "", "What $OPT1 in the label means")
			f.StringVar(&opts[1], "opt2", "", "What $OPT2 in the label means")
			f.StringVar(&opts[2], "opt3", "", "What $OPT3 in the label means")
			f.Hide("opt1", "opt2", "opt3")
		},
		Run: func(ctx context.Context, args []string) error {
			img, err := s.labelled(ctx, args[1], quiet, p)
			if err != nil {
				return err
			}
			text, ok := img.Config.Config.Labels[args[0]]
			if !ok {
				return fmt.Errorf("cannot find the value of label: %s in image: %s", args[0], args[1])
			}
			words, err := labelCommand(text, img, args[1], name, opts)
			if err != nil {
				return err
			}
			words = append(words, args[2:]...)
			if replace && len(words) > 0 && (words[0] == "run" || words[0] == "create") {
				words = append([]string{words[0], "--replace"}, words[1:]...)
			}
			if display {
				fmt.Fprintf(s.stdout, "command: %s %s\n", s.program, command.Printable(strings.Join(words, " ")))
				return nil
			}
			return s.again(ctx, words)
		},
	}
}

// labelled finds the image, and pulls it when it is not here.
func (s *session) labelled(ctx context.Context, name string, quiet bool, p pullFlags) (image.Image, error) {
	e, err := s.open(ctx)
	if err != nil {
		return image.Image{}, err
	}
	images, err := e.Images()
	if err != nil {
		return image.Image{}, err
	}
	img, err := images.Find(ctx, name)
	if !errors.Is(err, image.ErrNotFound) {
		return img, err
	}
	if err := s.pull(ctx, engine.PullRequest{Name: name, Quiet: quiet}, p); err != nil {
		return image.Image{}, err
	}
	return images.Find(ctx, name)
}

// labelCommand is a label's text as words of a command line, without the first.
func labelCommand(text string, img image.Image, given, name string, opts []string) ([]string, error) {
	full := given
	if len(img.Names) > 0 {
		full = img.Names[0].String()
		if name == "" {
			name = path.Base(img.Names[0].Path)
		}
	}
	mean := map[string]string{"IMAGE": full, "NAME": name, "OPT1": opts[0], "OPT2": opts[1], "OPT3": opts[2]}
	if dir, err := os.Getwd(); err == nil {
		mean["PWD"] = dir
	}
	words, err := image.Words(text)
	if err != nil {
		return nil, fmt.Errorf("read label: %w", err)
	}
	if len(words) < 2 {
		return nil, fmt.Errorf("read label: %q is no command", text)
	}
	for i, w := range words {
		switch {
		case w == "IMAGE" || w == "NAME":
			w = mean[w]
		case strings.HasSuffix(w, "=NAME") || strings.HasSuffix(w, "=IMAGE"):
			k, v, _ := strings.Cut(w, "=")
			w = k + "=" + mean[v]
		}
		words[i] = os.Expand(w, func(k string) string { return mean[k] })
	}
	return words[1:], nil
}

// again runs this program with another command, and passes its exit code on.
func (s *session) again(ctx context.Context, words []string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the own executable: %w", err)
	}
	c := exec.CommandContext(ctx, self, append(s.globals.Argv(), words...)...)
	c.Args[0] = s.program
	c.Stdin, c.Stdout, c.Stderr = s.stdin, s.stdout, s.stderr
	err = c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exitCode(exit.ExitCode())
	}
	return err
}
