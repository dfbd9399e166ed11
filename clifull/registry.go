package clifull

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/bcrypt"

	"hull/command"
	"hull/depot"
	"hull/engine"
	"hull/front"
	"hull/state"
)

// registryNodes are the commands of a registry of one's own.
func (s *session) registryNodes() []command.Node {
	return []command.Node{
		{Path: "registry", Short: "Run a registry of one's own"},
		{Path: "registry serve", Short: "Serve a registry from a directory", Build: s.registryServe},
	}
}

// serveOptions are the flags of registry serve.
type serveOptions struct {
	address, cert, key, passwords string
	plain                         bool
}

func (s *session) registryServe() *command.Command {
	var o serveOptions
	return &command.Command{
		Usage: "[options] [DIRECTORY]",
		Long: "Serves a registry from DIRECTORY, or from the store's own, until it is interrupted. It answers this machine only, by plain HTTP,\n" +
			"unless --address says otherwise; other machines want --tls-cert and --tls-key.",
		Examples: []string{"registry serve", "registry serve --address :5000 --tls-cert cert.pem --tls-key key.pem --htpasswd users /srv/registry"},
		Args:     command.AtMost(1),
		Flags: func(f *command.Flags) {
			f.StringVarP(&o.address, "address", "a", "127.0.0.1:5000", "Where to listen: HOST:PORT; port 0 is any")
			f.StringVar(&o.passwords, "htpasswd", "", "File with the names and passwords (bcrypt) of those who may use it")
			f.BoolVar(&o.plain, "plain-http", false, "Speak plain HTTP also to other machines")
			f.StringVar(&o.cert, "tls-cert", "", "Path to the certificate to show")
			f.StringVar(&o.key, "tls-key", "", "Path to its key")
		},
		Run: func(ctx context.Context, args []string) error {
			if err := s.globals.Check(); err != nil {
				return err
			}
			dir, err := s.registryDir(args)
			if err != nil {
				return err
			}
			return s.serveRegistry(ctx, dir, o)
		},
	}
}

// registryDir is the argument, or a directory of the store. The user's
// namespace is not needed: the files are all the user's own.
func (s *session) registryDir(args []string) (string, error) {
	if len(args) == 1 {
		return filepath.Abs(args[0])
	}
	root := s.globals.Root
	if root == "" {
		var err error
		if root, err = front.Root(); err != nil {
			return "", err
		}
	}
	return filepath.Abs(filepath.Join(root, "registry"))
}

func (s *session) serveRegistry(ctx context.Context, dir string, o serveOptions) error {
	if (o.cert == "") != (o.key == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	store, err := depot.Open(dir)
	if err != nil {
		return err
	}
	lock, ok, err := state.TryAcquire(filepath.Join(dir, "lock"))
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("serve registry: another process serves %s", dir)
	}
	defer lock.Release()
	if err := store.Collect(time.Now().Add(-24 * time.Hour)); err != nil {
		return err
	}
	handler := store.Handler()
	if o.passwords != "" {
		if handler, err = withPasswords(handler, o.passwords); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", o.address)
	if err != nil {
		return fmt.Errorf("serve registry: %w", err)
	}
	defer l.Close()
	if !l.Addr().(*net.TCPAddr).IP.IsLoopback() && o.cert == "" && !o.plain {
		return &engine.HintError{Err: fmt.Errorf("serve registry: %s is not this machine alone, and plain HTTP can be read and changed on the way", l.Addr()),
			Text: "give --tls-cert and --tls-key, or --plain-http if that is what you want"}
	}
	scheme := "http"
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return fmt.Errorf("serve registry: %w", err)
		}
		scheme, l = "https", tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}})
	}
	fmt.Fprintf(s.stdout, "Serving %s at %s://%s\n", dir, scheme, l.Addr())
	return serve(ctx, l, s.logged(handler))
}

// serve answers until it is interrupted, and then lets what is under way end.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve registry: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		return server.Close()
	}
	return nil
}

// logged tells each request where that is wanted.
func (s *session) logged(h http.Handler) http.Handler {
	if !s.globals.Verbose() {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(s.stderr, "debug: %s\n", command.Printable(r.RemoteAddr+" "+r.Method+" "+r.URL.Path))
		h.ServeHTTP(w, r)
	})
}

// withPasswords asks for a name and its password.
func withPasswords(h http.Handler, file string) (http.Handler, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read passwords: %w", err)
	}
	users := map[string][]byte{}
	for line := range strings.Lines(string(data)) {
		name, hash, ok := strings.Cut(strings.TrimSpace(line), ":")
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		if _, err := bcrypt.Cost([]byte(hash)); !ok || err != nil {
			return nil, fmt.Errorf("read passwords: %s: user %s: only bcrypt is known (htpasswd -B)", file, name)
		}
		users[name] = []byte(hash)
	}
	// A name that is not there takes as long as one that is.
	dummy, err := bcrypt.GenerateFromPassword([]byte("nobody"), bcrypt.DefaultCost)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, _ := r.BasicAuth()
		hash, ok := users[name]
		if !ok {
			hash = dummy
		}
		if err := bcrypt.CompareHashAndPassword(hash, []byte(password)); err != nil || !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="hull"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}), nil
}
