package clifull

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"hull/command"
	"hull/registry"
)

// loginFlags are those of login and logout.
type loginFlags struct {
	r          registryFlags
	compatFile string
}

func (l *loginFlags) declare(f *command.Flags) {
	f.StringVar(&l.r.authFile, "authfile", "", "Path of the authentication file. Use REGISTRY_AUTH_FILE environment variable to override")
	f.StringVar(&l.compatFile, "compat-auth-file", "", "Path of a Docker-compatible config file to update instead")
}

func (s *session) loginClient(l loginFlags) (*registry.Client, error) {
	if err := s.globals.Check(); err != nil {
		return nil, err
	}
	if l.r.authFile != "" && l.compatFile != "" {
		return nil, errors.New("options for paths to the credential file and to the Docker-compatible credential file can not be set simultaneously")
	}
	o := s.clientOptions(l.r)
	o.CompatAuthFile = l.compatFile
	if s.docker() && l.r.authFile == "" && o.CompatAuthFile == "" && os.Getenv("REGISTRY_AUTH_FILE") == "" {
		o.CompatAuthFile = dockerConfig()
	}
	return registry.New(o), nil
}

// loginName is the registry meant: the argument, or the first that is searched.
func loginName(c *registry.Client, args []string) (string, error) {
	if len(args) == 1 {
		return registry.LoginName(args[0])
	}
	names, err := c.SearchRegistries()
	if err != nil {
		return "", err
	}
	return names[0], nil
}

func (s *session) login() *command.Command {
	var (
		l                  loginFlags
		who                registry.Credentials
		stdin, get, detail bool
	)
	return &command.Command{
		Usage:    "[options] [REGISTRY]",
		Long:     "Keeps a user name and password for a registry, or for a repository in it, after the registry has taken them.",
		Examples: []string{"login quay.io", "login --username user --password-stdin registry.example.com"},
		Args:     command.AtMost(1),
		Flags: func(f *command.Flags) {
			l.declare(f)
			f.StringVar(&l.r.certDir, "cert-dir", "", "Path to a directory containing TLS certificates and keys used to connect to the registry")
			l.r.declareTLS(f)
			f.BoolVar(&get, "get-login", false, "Return the current login user for the registry")
			f.StringVarP(&who.Password, "password", "p", "", "Password for registry")
			f.BoolVar(&stdin, "password-stdin", false, "Take the password from stdin")
			f.StringVarP(&who.Username, "username", "u", "", "Username for registry")
			f.BoolVarP(&detail, "verbose", "v", false, "Write more detailed information to stdout")
		},
		Run: func(ctx context.Context, args []string) error {
			c, err := s.loginClient(l)
			if err != nil {
				return err
			}
			name, err := loginName(c, args)
			if err != nil {
				return err
			}
			if get {
				have, err := c.Stored(name)
				if errors.Is(err, registry.ErrNotLoggedIn) {
					return fmt.Errorf("not logged into %s", name)
				}
				if err == nil {
					fmt.Fprintln(s.stdout, have.Username)
				}
				return err
			}
			if stdin {
				if err := s.passwordFromStdin(&who); err != nil {
					return err
				}
			}
			return s.runLogin(ctx, c, name, who, detail)
		},
	}
}

// passwordFromStdin reads the password as scripts give it.
func (s *session) passwordFromStdin(who *registry.Credentials) error {
	if who.Password != "" {
		return errors.New("can't specify both --password-stdin and --password")
	}
	if who.Username == "" {
		return errors.New("must provide --username with --password-stdin")
	}
	data, err := io.ReadAll(io.LimitReader(s.stdin, 1<<20))
	if err != nil {
		return fmt.Errorf("read password: %w", err)
	}
	who.Password = strings.TrimRight(string(data), "\r\n")
	return nil
}

func (s *session) runLogin(ctx context.Context, c *registry.Client, name string, who registry.Credentials, detail bool) error {
	if who.Username == "" && who.Password == "" {
		have, err := c.Stored(name)
		if err == nil && c.Check(ctx, name, have) == nil {
			fmt.Fprintf(s.stdout, "Existing credentials are valid. Already logged in to %s\n", name)
			return nil
		}
	}
	var err error
	if who.Username == "" {
		if who.Username, err = s.readLine("Username: "); err != nil {
			return err
		}
	}
	if who.Password == "" {
		if who.Password, err = s.readPassword("Password: "); err != nil {
			return err
		}
	}
	if err := c.Check(ctx, name, who); err != nil {
		if errors.Is(err, registry.ErrUnauthorized) {
			return fmt.Errorf("logging into %q: invalid username/password", name)
		}
		return err
	}
	where, err := c.Login(name, who)
	if err != nil {
		return err
	}
	if detail {
		fmt.Fprintf(s.stdout, "Used: %s\n", where)
	}
	fmt.Fprintln(s.stdout, "Login Succeeded!")
	return nil
}

func (s *session) logout() *command.Command {
	var (
		l   loginFlags
		all bool
	)
	return &command.Command{
		Usage: "[options] [REGISTRY]",
		Long:  "Removes the user name and password that are kept for a registry.",
		Args:  command.AtMost(1),
		Flags: func(f *command.Flags) {
			l.declare(f)
			f.BoolVarP(&all, "all", "a", false, "Remove the cached credentials for all registries in the auth file")
		},
		Run: func(_ context.Context, args []string) error {
			c, err := s.loginClient(l)
			if err != nil {
				return err
			}
			if all {
				if len(args) > 0 {
					return errors.New("--all takes no arguments")
				}
				if err := c.LogoutAll(); err != nil {
					return err
				}
				fmt.Fprintln(s.stdout, "Removed login credentials for all registries")
				return nil
			}
			name, err := loginName(c, args)
			if err != nil {
				return err
			}
			if err := c.Logout(name); err != nil {
				if errors.Is(err, registry.ErrNotLoggedIn) {
					return fmt.Errorf("not logged into %s", name)
				}
				return err
			}
			fmt.Fprintf(s.stdout, "Removed login credentials for %s\n", name)
			return nil
		},
	}
}

// readLine asks on the terminal, or takes a line of standard input.
func (s *session) readLine(prompt string) (string, error) {
	fmt.Fprint(s.stdout, prompt)
	line, err := bufio.NewReaderSize(oneByte{s.stdin}, 1).ReadString('\n')
	if err != nil && (err != io.EOF || line == "") {
		return "", fmt.Errorf("read user name: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// oneByte reads no further than needed: what follows is the password's.
type oneByte struct{ f *os.File }

func (o oneByte) Read(p []byte) (int, error) { return o.f.Read(p[:min(len(p), 1)]) }

// readPassword asks on the terminal without showing what is typed.
func (s *session) readPassword(prompt string) (string, error) {
	fd := int(s.stdin.Fd())
	if !term.IsTerminal(fd) {
		return "", errors.New("read password: standard input is not a terminal; use --password-stdin")
	}
	fmt.Fprint(s.stdout, prompt)
	p, err := term.ReadPassword(fd)
	fmt.Fprintln(s.stdout)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	return string(p), nil
}
