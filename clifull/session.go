package clifull

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hull/blob"
	"hull/codec"
	"hull/command"
	"hull/front"
	"hull/image"
	"hull/registry"
	"hull/snapshot"
	"hull/transfer"
	"hull/userns"
)

// session is one invocation of the program.
type session struct {
	program string // hull, podman or docker: how it was called
	args    []string
	stdin   *os.File
	stdout  *os.File
	stderr  *os.File
	globals front.Globals
}

// Run runs the command line args, args[0] being the program's name, and
// returns the exit code.
func Run(ctx context.Context, args []string, stdin, stdout, stderr *os.File) int {
	s := &session{program: "hull", stdin: stdin, stdout: stdout, stderr: stderr}
	if len(args) > 0 {
		if name := filepath.Base(args[0]); name == "podman" || name == "docker" {
			s.program = name
		}
		s.args = args[1:]
	}
	return s.tree().Execute(ctx, s.args)
}

func (s *session) docker() bool { return s.program == "docker" }

// warn tells the user something that is not an error.
func (s *session) warn(text string) {
	if !s.globals.Quiet() {
		fmt.Fprintf(s.stderr, "Warning: %s\n", command.Printable(text))
	}
}

// store opens the images, as root of the user's namespace where needed.
func (s *session) store(ctx context.Context) (*image.Store, error) {
	g := &s.globals
	place, err := g.Begin(ctx, s.stdout)
	if err != nil {
		return nil, err
	}
	s.stdout = place.Stdout
	blobs, err := blob.Open(place.ImageRoot)
	if err != nil {
		return nil, err
	}
	blobs.Also = place.ImageStores
	o := snapshot.Options{Driver: g.StorageDriver, DefaultDriver: front.StorageDriver, Rootless: front.InUserNamespace()}
	if err := o.SetStorageOptions(g.StorageOpts); err != nil {
		return nil, err
	}
	for _, root := range place.ImageStores {
		o.Also = append(o.Also, filepath.Join(root, "snapshots"))
	}
	snaps, err := snapshot.Open(filepath.Join(place.ImageRoot, "snapshots"), o)
	if err != nil {
		return nil, err
	}
	images, err := image.Open(place.ImageRoot, blobs, snaps)
	if err == nil {
		images.Also, images.Codec = place.ImageStores, codec.Codec{}
	}
	return images, err
}

// registryFlags are what the commands that reach registries have in common.
type registryFlags struct {
	authFile, certDir, creds, retryDelay string
	tlsVerify                            *bool
	retry                                *int
}

func (r *registryFlags) declare(f *command.Flags) {
	f.StringVar(&r.authFile, "authfile", "", "Path of the authentication file. Use REGISTRY_AUTH_FILE environment variable to override")
	f.StringVar(&r.certDir, "cert-dir", "", "Path to a directory containing TLS certificates and keys")
	r.declareTLS(f)
}

func (r *registryFlags) declareCreds(f *command.Flags) {
	f.StringVar(&r.creds, "creds", "", "Credentials (USERNAME:PASSWORD) to use for authenticating to a registry")
}

func (r *registryFlags) declareTLS(f *command.Flags) {
	command.Optional(f, &r.tlsVerify, "tls-verify", "", "bool", "Require HTTPS and verify certificates when contacting registries", strconv.ParseBool)
	f.Lookup("tls-verify").NoOptDefVal = "true"
}

func (r *registryFlags) declareRetry(f *command.Flags) {
	command.Optional(f, &r.retry, "retry", "", "uint", "Number of times to retry in case of failure", func(s string) (int, error) {
		n, err := strconv.ParseUint(s, 10, 16)
		return int(n), err
	})
	f.StringVar(&r.retryDelay, "retry-delay", "", "Delay between retries in case of failures")
}

// clientOptions are what the flags say, credentials aside.
func (s *session) clientOptions(r registryFlags) registry.Options {
	if userns.Rootless() {
		userEnvironment()
	}
	o := registry.Options{AuthFile: r.authFile, CertDir: r.certDir, TLSVerify: r.tlsVerify, Retries: r.retry}
	if s.globals.Verbose() {
		o.Log = func(format string, a ...any) {
			fmt.Fprintf(s.stderr, "debug: %s\n", command.Printable(fmt.Sprintf(format, a...)))
		}
	}
	return o
}

// userEnvironment tells the reader of auth files who the user is: inside of the
// user namespace it would take root's file, in a directory that is closed.
func userEnvironment() {
	os.Setenv("_CONTAINERS_ROOTLESS_UID", strconv.Itoa(userns.HostUID()))
	if os.Getenv("XDG_RUNTIME_DIR") != "" {
		return
	}
	run, err := front.RunRoot()
	if err != nil {
		return // who needs the directory says so
	}
	if filepath.Base(run) == "hull" {
		run = filepath.Dir(run)
	}
	os.Setenv("XDG_RUNTIME_DIR", run)
}

// client makes the registry client that the flags describe.
func (s *session) client(r registryFlags) (*registry.Client, error) {
	o := s.clientOptions(r)
	if r.creds != "" {
		user, password, ok := strings.Cut(r.creds, ":")
		if !ok {
			var err error
			if password, err = s.readPassword("Password: "); err != nil {
				return nil, err
			}
		}
		o.Creds = registry.Credentials{Username: user, Password: password}
	}
	if r.retryDelay != "" {
		d, err := time.ParseDuration(r.retryDelay)
		if err != nil {
			return nil, fmt.Errorf("unable to parse value provided %q: %w", r.retryDelay, err)
		}
		o.RetryDelay = d
	}
	return registry.New(o), nil
}

// open opens store and client together.
func (s *session) open(ctx context.Context, r registryFlags) (*transfer.Transfer, error) {
	images, err := s.store(ctx)
	if err != nil {
		return nil, err
	}
	c, err := s.client(r)
	if err != nil {
		return nil, err
	}
	if images.Search, err = c.SearchRegistries(); err != nil {
		return nil, err
	}
	return &transfer.Transfer{Images: images, Registry: c}, nil
}

func parseBool(s string) (bool, error) { return strconv.ParseBool(s) }

func parseLevel(s string) (int, error) { return strconv.Atoi(s) }
