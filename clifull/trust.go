package clifull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hull/command"
	"hull/format"
	"hull/state"
	"hull/transfer"
	"hull/trust"
	"hull/userns"
)

// trustNodes are the commands on signatures and on who is trusted.
func (s *session) trustNodes() []command.Node {
	return []command.Node{
		{Path: "image sign", Short: "Sign an image", Build: s.imageSign},
		{Path: "image trust", Short: "Manage container image trust policy"},
		{Path: "image trust set", Short: "Set default trust policy or a new trust policy for a registry", Build: s.trustSet},
		{Path: "image trust show", Short: "Display trust policy for the system", Build: s.trustShow},
	}
}

func (s *session) imageSign() *command.Command {
	var (
		r registryFlags
		o transfer.SignOptions
	)
	return &command.Command{
		Usage:    "[options] IMAGE [IMAGE...]",
		Long:     "Creates a signature file, by gpg, that can be used later to verify an image in a registry.",
		Examples: []string{"image sign --sign-by mykey docker://registry.example.com/image:tag", "image sign --sign-by mykey --directory ./mykeydir docker://registry.example.com/image:tag"},
		Args:     command.AtLeast(1),
		Flags: func(f *command.Flags) {
			r.declare(f)
			f.BoolVarP(&o.All, "all", "a", false, "Sign all the manifests of the multi-architecture image")
			f.StringVarP(&o.Dir, "directory", "d", "", "Define an alternate directory to store signatures")
			f.StringVar(&o.By, "sign-by", "", "Name of the signing key")
		},
		Run: func(ctx context.Context, args []string) error {
			if o.By == "" {
				return errors.New("please provide an identity: --sign-by KEY")
			}
			if o.Dir != "" {
				if fi, err := os.Stat(o.Dir); err != nil || !fi.IsDir() {
					return fmt.Errorf("keep signatures in %s: it is no directory", o.Dir)
				}
			}
			t, err := s.open(ctx, r)
			if err != nil {
				return err
			}
			for _, name := range args {
				if err := t.Sign(ctx, name, o); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// policyFile is the file that show and set work on.
func policyFile(flag string) string {
	files := trust.PolicyFiles()
	if flag != "" {
		return flag
	}
	for _, f := range files {
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	if userns.Rootless() {
		return files[0]
	}
	return files[len(files)-1]
}

func (s *session) trustSet() *command.Command {
	var (
		kind, file string
		keys       []string
	)
	return &command.Command{
		Usage:    "[options] REGISTRY",
		Long:     "Sets the default trust policy, of REGISTRY \"default\", or that of a registry or of repositories in it.",
		Examples: []string{"image trust set -t reject default", "image trust set -t signedBy -f /etc/pki/key.asc registry.example.com"},
		Args:     command.Exactly(1),
		Flags: func(f *command.Flags) {
			f.StringSliceVarP(&keys, "pubkeysfile", "f", nil, "Path of installed public key(s) to trust for REGISTRY, may be given several times. Each file must exist")
			f.StringVar(&file, "signature-policy", "", "The policy file to change")
			f.Alias("policypath", "signature-policy")
			f.Choice(&kind, "type", "t", "signedBy", "Trust type", "signedBy", "sigstoreSigned", "accept", "reject")
		},
		Run: func(_ context.Context, args []string) error {
			if err := s.globals.Check(); err != nil {
				return err
			}
			r, err := requirements(kind, keys)
			if err != nil {
				return err
			}
			return setPolicy(policyFile(file), args[0], r)
		},
	}
}

// requirements are those of a type of trust, one for each key.
func requirements(kind string, keys []string) ([]trust.Requirement, error) {
	one := trust.Requirement{Type: map[string]string{"accept": trust.Accept}[kind]}
	if one.Type == "" {
		one.Type = kind
	}
	signed := kind == trust.SignedBy || kind == trust.SigstoreSigned
	switch {
	case !signed && len(keys) > 0:
		return nil, fmt.Errorf("%d public keys given for type %q, which has none", len(keys), kind)
	case !signed:
		return []trust.Requirement{one}, nil
	case len(keys) == 0:
		return nil, fmt.Errorf("at least one public key must be defined for type '%s'", kind)
	}
	var all []trust.Requirement
	for _, k := range keys {
		path, err := filepath.Abs(k)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return nil, fmt.Errorf("use public key: %w", err)
		}
		r := one
		if r.KeyPath = path; kind == trust.SignedBy {
			r.KeyType = "GPGKeys"
		}
		all = append(all, r)
	}
	return all, nil
}

// setPolicy changes one scope of a policy file and leaves the rest as it is.
func setPolicy(file, scope string, r []trust.Requirement) error {
	p := &trust.Policy{Default: []trust.Requirement{{Type: trust.Accept}}}
	data, err := os.ReadFile(file)
	if err == nil {
		p, err = trust.Parse(data)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read policy %s: %w", file, err)
	}
	if scope == "default" {
		p.Default = r
	} else {
		if p.Transports == nil {
			p.Transports = map[string]map[string][]trust.Requirement{}
		}
		if p.Transports["docker"] == nil {
			p.Transports["docker"] = map[string][]trust.Requirement{}
		}
		p.Transports["docker"][scope] = r
	}
	if data, err = json.MarshalIndent(p, "", "    "); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	return state.WriteFile(filepath.Dir(file), filepath.Base(file), append(data, '\n'), 0o644, true)
}

// A trustRow is one line of trust show.
type trustRow struct {
	Transport string   `json:"transport"`
	Name      string   `json:"name,omitempty"`
	RepoName  string   `json:"repo_name,omitempty"`
	Keys      []string `json:"keys,omitempty"`
	Sigstore  string   `json:"sigstore,omitempty"`
	Type      string   `json:"type"`
	GPGID     string   `json:"gpg_id,omitempty"`
}

func (s *session) trustShow() *command.Command {
	var (
		file, dir             string
		asJSON, bare, rawFile bool
	)
	return &command.Command{
		Usage:    "[options] [REGISTRY]",
		Long:     "Displays the trust policy for the system, or what of it concerns a registry.",
		Examples: []string{"image trust show", "image trust show --raw", "image trust show registry.example.com/repository"},
		Args:     command.AtMost(1),
		Flags: func(f *command.Flags) {
			f.BoolVarP(&asJSON, "json", "j", false, "Output as json")
			f.BoolVarP(&bare, "noheading", "n", false, "Do not print column headings")
			f.BoolVar(&rawFile, "raw", false, "Output raw policy file")
			f.StringVar(&file, "signature-policy", "", "The policy file to show")
			f.StringVar(&dir, "registrypath", "", "The directory of registries.d")
			f.Alias("policypath", "signature-policy")
			f.Hide("registrypath")
		},
		Run: func(_ context.Context, args []string) error {
			if err := s.globals.Check(); err != nil {
				return err
			}
			file = policyFile(file)
			if rawFile {
				data, err := os.ReadFile(file)
				if err != nil {
					return fmt.Errorf("read policy: %w", err)
				}
				_, err = s.stdout.Write(append(data, '\n'))
				return err
			}
			p := trust.ReadPolicy(file)
			if p.Err() != nil {
				return p.Err()
			}
			if dir == "" {
				dir = trust.LookasideDir()
			}
			l, err := trust.ReadLookaside(dir)
			if err != nil {
				return err
			}
			rows := trustRows(p, l)
			if len(args) == 1 {
				rows = slices.DeleteFunc(rows, func(r trustRow) bool { return r.RepoName != "default" && !strings.HasPrefix(args[0], r.RepoName) })
			}
			return s.printTrust(rows, asJSON, bare)
		},
	}
}

func (s *session) printTrust(rows []trustRow, asJSON, bare bool) error {
	if asJSON {
		return format.JSON(s.stdout, rows, "  ")
	}
	header := []string{"TRANSPORT", "NAME", "TYPE", "ID", "STORE"}
	if bare {
		header = nil
	}
	var lines [][]string
	for _, r := range rows {
		lines = append(lines, []string{r.Transport, r.RepoName, r.Type, r.GPGID, r.Sigstore})
	}
	return format.Table(s.stdout, header, lines)
}

// trustRows are the default and then each scope, by transport.
func trustRows(p *trust.Policy, l *trust.Lookaside) []trustRow {
	words := map[string]string{trust.Accept: "accept", trust.SignedBy: "signed"}
	row := func(transport, name, repo, store string, q *trust.Requirement) trustRow {
		r := trustRow{Transport: transport, Name: name, RepoName: repo, Sigstore: store, Type: words[q.Type]}
		if r.Type == "" {
			r.Type = q.Type
		}
		if q.Type == trust.SignedBy || q.Type == trust.SigstoreSigned {
			if r.Keys = q.KeyPaths; q.KeyPath != "" {
				r.Keys = []string{q.KeyPath}
			}
			r.GPGID = strings.Join(q.KeyNames(), ", ")
		}
		return r
	}
	var rows []trustRow
	for i := range p.Default {
		rows = append(rows, row("all", "* (default)", "default", l.Base(""), &p.Default[i]))
	}
	for _, transport := range slices.Sorted(maps.Keys(p.Transports)) {
		shown := transport
		if transport == "docker" {
			shown = "repository"
		}
		scopes := p.Transports[transport]
		for _, scope := range slices.Sorted(maps.Keys(scopes)) {
			store := ""
			if transport == "docker" {
				store = l.Base(scope)
			}
			for i := range scopes[scope] {
				rows = append(rows, row(shown, scope, scope, store, &scopes[scope][i]))
			}
		}
	}
	return rows
}
