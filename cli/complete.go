package cli

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"hull/command"
	"hull/engine"
)

// completeContainers proposes names and IDs of containers in one of states,
// any when there are none.
func (s *session) completeContainers(states ...string) command.Completer {
	return func(ctx context.Context, _ []string, typed string) []string {
		e, err := s.open(ctx)
		if err != nil {
			return nil
		}
		all, err := e.List(ctx, engine.ListOptions{All: true})
		if err != nil {
			return nil
		}
		var words []string
		for _, c := range all {
			if len(states) > 0 && !slices.Contains(states, c.State) {
				continue
			}
			words = append(words, c.Names...)
			if typed != "" && strings.HasPrefix(c.ID, typed) {
				words = append(words, c.ID)
			}
		}
		return words
	}
}

// completeImageThenNothing proposes an image as the first argument; what
// follows is the container's own.
func (s *session) completeImageThenNothing(ctx context.Context, args []string, typed string) []string {
	if len(args) > 0 {
		return nil
	}
	return s.completeImages(ctx, args, typed)
}

// completeCreate proposes values of run's and create's flags.
func (s *session) completeCreate(f *command.Flags) {
	for name, words := range map[string][]string{
		"pull": {"always", "missing", "never", "newer"}, "restart": {"always", "no", "on-failure", "unless-stopped"},
		"log-driver": {"k8s-file", "json-file", "none", "passthrough", "passthrough-tty"}, "network": {"bridge", "none", "host", "private"},
		"attach": {"stdin", "stdout", "stderr"}, "cgroups": {"enabled", "disabled", "no-conmon", "split"}, "cgroupns": {"host", "private"},
		"ipc": {"host", "none", "private", "shareable"}, "pid": {"host", "private"}, "uts": {"host", "private"},
		"userns": {"auto", "host", "keep-id", "nomap"}, "systemd": {"true", "false", "always"}, "image-volume": {"anonymous", "ignore", "tmpfs"},
		"sdnotify": {"container", "conmon", "healthy", "ignore"}, "health-on-failure": {"none", "kill", "restart", "stop"},
	} {
		if f.Lookup(name) != nil {
			f.Words(name, words...)
		}
	}
	f.Completion("pod", s.completePods)
}

// completePsFilter proposes the keys of ps --filter, and the values of some.
func (s *session) completePsFilter(ctx context.Context, _ []string, typed string) []string {
	key, _, has := strings.Cut(typed, "=")
	if !has {
		return []string{"ancestor=", "annotation=", "before=", "command=", "exited=", "health=", "id=", "label=", "name=", "network=", "pod=",
			"restart-policy=", "should-start-on-boot=", "since=", "status=", "until=", "volume="}
	}
	values := map[string][]string{
		"status": {"created", "exited", "initialized", "paused", "running", "stopped"}, "health": {"healthy", "unhealthy", "starting", "none"},
	}[key]
	var words []string
	for _, v := range values {
		words = append(words, key+"="+v)
	}
	return words
}

// completeFormat proposes json and the fields of row in a Go template.
func completeFormat(row any) command.Completer {
	return func(context.Context, []string, string) []string {
		words := []string{"json", "table"}
		t := reflect.TypeOf(row)
		for i := range t.NumMethod() {
			words = append(words, "{{."+t.Method(i).Name+"}}")
		}
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && !f.Anonymous {
				words = append(words, "{{."+f.Name+"}}")
			}
		}
		return words
	}
}
