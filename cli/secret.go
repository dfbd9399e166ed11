package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"hull/command"
	"hull/engine"
	"hull/format"
)

// secretNodes are the commands of secrets.
func (s *session) secretNodes() []command.Node {
	return []command.Node{
		{Path: "secret", Short: "Manage secrets"},
		{Path: "secret create", Short: "Create a new secret", Build: s.secretCreate},
		{Path: "secret exists", Short: "Check if a secret exists in local storage", Build: s.secretExists},
		{Path: "secret inspect", Short: "Inspect a secret", Build: s.secretInspect},
		{Path: "secret ls", Short: "List secrets", Build: s.secretList},
		{Path: "secret list", Short: "List secrets", Build: s.secretList, Hidden: true},
		{Path: "secret rm", Short: "Remove one or more secrets", Build: s.secretRemove},
	}
}

// completeSecrets proposes the names of secrets.
func (s *session) completeSecrets(ctx context.Context, _ []string, _ string) []string {
	e, err := s.open(ctx)
	if err != nil {
		return nil
	}
	all, err := e.SecretList(ctx, nil)
	if err != nil {
		return nil
	}
	var names []string
	for _, x := range all {
		names = append(names, x.Spec.Name)
	}
	return names
}

func (s *session) secretCreate() *command.Command {
	var o engine.SecretCreateOptions
	var labels, opts []string
	var env bool
	return &command.Command{
		Usage:    "[options] NAME FILE|-",
		Long:     "Create a secret. Input can be a path to a file or \"-\" (read from stdin). The drivers are file, pass and shell.",
		Examples: []string{"secret create mysecret /path/to/secret", "secret create mysecret - <secret.txt", "secret create --env mysecret MYVARIABLE"},
		Args:     command.Exactly(2),
		Flags: func(f *command.Flags) {
			f.StringVarP(&o.Driver, "driver", "d", "file", "Specify secret driver")
			f.StringSliceVar(&opts, "driver-opts", nil, "Specify driver specific options")
			f.BoolVar(&env, "env", false, "Read secret data from environment variable")
			f.BoolVar(&o.Ignore, "ignore", false, "If a secret with the same name exists, ignore and do not create a new secret")
			f.StringArrayVarP(&labels, "label", "l", nil, "Specify labels on the secret")
			f.BoolVar(&o.Replace, "replace", false, "If a secret with the same name exists, replace it")
			f.Words("driver", "file", "pass", "shell")
			f.Alias("driver-opt", "driver-opts")
		},
		Run: func(ctx context.Context, args []string) error {
			var err error
			o.Name = args[0]
			if o.Labels, err = keyValues(labels); err != nil {
				return err
			}
			if o.DriverOptions, err = keyValues(opts); err != nil {
				return err
			}
			// Opened first: a user's command begins anew in his namespace, and
			// standard input can be read once.
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if o.Data, err = s.secretData(args[1], env); err != nil {
				return err
			}
			id, err := e.SecretCreate(ctx, o)
			if err == nil {
				fmt.Fprintln(s.stdout, id)
			}
			return err
		},
	}
}

// secretData reads what is to be kept: a variable, standard input or a file.
func (s *session) secretData(from string, env bool) ([]byte, error) {
	if env {
		v, ok := os.LookupEnv(from)
		if !ok {
			return nil, fmt.Errorf("cannot create store secret data: environment variable %s is not set", from)
		}
		return []byte(v), nil
	}
	in := io.Reader(s.stdin)
	if from != "-" {
		f, err := os.Open(from)
		if err != nil {
			return nil, fmt.Errorf("read secret: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, engine.MaxSecretSize+1))
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	return data, nil
}

// keyValues reads KEY=VALUE words; KEY alone has the value "".
func keyValues(words []string) (map[string]string, error) {
	m := map[string]string{}
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		if k == "" {
			return nil, fmt.Errorf("parse %q: want KEY=VALUE", w)
		}
		m[k] = v
	}
	return m, nil
}

func (s *session) secretExists() *command.Command {
	return &command.Command{
		Usage:    "SECRET",
		Long:     "Ends with 0 when the secret exists, with 1 when it does not.",
		Examples: []string{"secret exists ID", "secret exists SECRET || secret create SECRET <secret source>"},
		Args:     command.Exactly(1),
		Complete: s.completeSecrets,
		Run: func(ctx context.Context, args []string) error {
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			_, err = e.SecretInspect(ctx, args[0], false)
			if errors.Is(err, engine.ErrNotFound) {
				return &command.Exit{Code: command.CodeFailed}
			}
			return err
		},
	}
}

func (s *session) secretInspect() *command.Command {
	var text string
	var pretty, show bool
	return &command.Command{
		Usage:    "[options] SECRET [SECRET...]",
		Long:     "Display detail information on one or more secrets",
		Examples: []string{"secret inspect MYSECRET", "secret inspect --format \"{{.ID}} {{.Spec.Name}}\" mysecret"},
		Args:     command.AtLeast(1),
		Complete: s.completeSecrets,
		Flags: func(f *command.Flags) {
			f.StringVarP(&text, "format", "f", "", "Format inspect output using Go template")
			f.BoolVar(&pretty, "pretty", false, "Print inspect output in human-readable format")
			f.BoolVar(&show, "showsecret", false, "Display the secret")
			f.Completion("format", completeFormat(engine.SecretInfo{}))
		},
		Run: func(ctx context.Context, args []string) error {
			if pretty && text != "" {
				return errors.New("the --format and --pretty options exclude each other")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			var found []any
			err = each(args, func(name string) error {
				x, err := e.SecretInspect(ctx, name, show)
				if err == nil {
					found = append(found, x)
				}
				return err
			})
			if found == nil {
				found = []any{}
			}
			if pretty {
				for _, x := range found {
					s.prettySecret(x.(*engine.SecretInfo), show)
				}
				return err
			}
			return errors.Join(s.showObjects(found, text), err)
		},
	}
}

func (s *session) prettySecret(x *engine.SecretInfo, show bool) {
	var b bytes.Buffer
	row := func(k, v string) { fmt.Fprintf(&b, "%-20s%s\n", k, command.Printable(v)) }
	row("ID:", x.ID)
	row("Name:", x.Spec.Name)
	row("Labels:", labelText(x.Spec.Labels))
	row("Driver:", x.Spec.Driver.Name)
	row("Created:", x.CreatedAt.Format(time.RFC1123))
	row("Updated:", x.UpdatedAt.Format(time.RFC1123))
	if show {
		row("Secret:", x.SecretData)
	}
	s.stdout.Write(b.Bytes())
}

// labelText is KEY=VALUE words, sorted.
func labelText(m map[string]string) string {
	words := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		words = append(words, k+"="+m[k])
	}
	return strings.Join(words, ", ")
}

// secretRow is what a template of secret ls sees.
type secretRow struct {
	ID, Name, Driver     string
	CreatedAt, UpdatedAt string
	Labels               map[string]string `json:",omitempty"`
}

func (s *session) secretList() *command.Command {
	var text string
	var filters []string
	var quiet, noHeading bool
	return &command.Command{
		Usage:    "[options]",
		Long:     "List available secrets.",
		Examples: []string{"secret ls", "secret ls --format \"{{.Name}} {{.Driver}}\""},
		Args:     command.NoArgs,
		Flags: func(f *command.Flags) {
			f.StringArrayVarP(&filters, "filter", "f", nil, "Filter secret output")
			f.StringVar(&text, "format", "", "Format secret output using Go template")
			f.BoolVarP(&noHeading, "noheading", "n", false, "Do not print headers")
			f.BoolVarP(&quiet, "quiet", "q", false, "Print secret IDs only")
			f.Completion("format", completeFormat(secretRow{}))
		},
		Run: func(ctx context.Context, _ []string) error {
			parsed, err := engine.ParseFilters(filters)
			if err != nil {
				return err
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			all, err := e.SecretList(ctx, parsed)
			if err != nil {
				return err
			}
			now := time.Now()
			rows := make([]secretRow, len(all))
			cells := make([][]string, len(all))
			for i, x := range all {
				rows[i] = secretRow{x.ID, x.Spec.Name, x.Spec.Driver.Name, format.Ago(now, x.CreatedAt), format.Ago(now, x.UpdatedAt), x.Spec.Labels}
				cells[i] = []string{x.ID, x.Spec.Name, x.Spec.Driver.Name, rows[i].CreatedAt, rows[i].UpdatedAt}
			}
			switch {
			case quiet:
				for _, x := range all {
					fmt.Fprintln(s.stdout, x.ID)
				}
				return nil
			case format.IsJSON(text):
				return format.JSON(s.stdout, rows, "    ")
			case text != "" && !(format.IsTable(text) && strings.TrimSpace(text) == "table"):
				t, err := format.Parse("secret ls", text)
				if err != nil {
					return err
				}
				return t.Rows(s.stdout, rows, map[string]string{"CreatedAt": "CREATED", "UpdatedAt": "UPDATED"}, noHeading)
			}
			header := []string{"ID", "NAME", "DRIVER", "CREATED", "UPDATED"}
			if noHeading {
				header = nil
			}
			return format.Table(s.stdout, header, cells)
		},
	}
}

func (s *session) secretRemove() *command.Command {
	var all, ignore bool
	return &command.Command{
		Usage:    "[options] SECRET [SECRET...]",
		Long:     "Remove one or more secrets from the host. Containers that were made with them keep their copies.",
		Examples: []string{"secret rm mysecret1 mysecret2"},
		Complete: s.completeSecrets,
		Flags: func(f *command.Flags) {
			f.BoolVarP(&all, "all", "a", false, "Remove all secrets")
			f.BoolVarP(&ignore, "ignore", "i", false, "Ignore errors when a specified secret is missing")
		},
		Run: func(ctx context.Context, args []string) error {
			if all && len(args) > 0 {
				return errors.New("`secret rm` takes no arguments when using the --all flag")
			}
			if !all && len(args) == 0 {
				return errors.New("requires at least 1 arg(s), only received 0")
			}
			e, err := s.open(ctx)
			if err != nil {
				return err
			}
			if all {
				list, err := e.SecretList(ctx, nil)
				if err != nil {
					return err
				}
				for _, x := range list {
					args = append(args, x.ID)
				}
			}
			return each(args, func(name string) error {
				id, err := e.SecretRemove(ctx, name)
				if ignore && errors.Is(err, engine.ErrNotFound) {
					return nil
				}
				if err == nil {
					fmt.Fprintln(s.stdout, id)
				}
				return err
			})
		},
	}
}
