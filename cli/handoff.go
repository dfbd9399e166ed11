package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"hull/command"
	"hull/engine"
	"hull/front"
)

// fullName is the binary that holds the commands which need the network, the
// builder or the servers.
const fullName = "hull-full"

// handoff becomes hull-full with the same arguments. The name it was called by
// stays argv[0], so that help and habits stay those of docker or podman.
func (s *session) handoff(_ context.Context, args []string) error {
	path, err := front.Libexec(fullName)
	if err != nil {
		return err
	}
	err = syscall.Exec(path, append([]string{s.program}, args...), os.Environ())
	return fmt.Errorf("execute %s: %w", path, err)
}

// pullFlags are run's and create's flags about registries, as hull-full pull
// takes them.
type pullFlags struct {
	authFile, certDir, creds, retryDelay string
	decryptionKeys                       []string
	tlsVerify                            *bool
	retry                                *uint
}

func (p *pullFlags) declare(f *command.Flags) {
	f.StringVar(&p.authFile, "authfile", "", "Path of the authentication file. Use REGISTRY_AUTH_FILE environment variable to override")
	f.StringVar(&p.certDir, "cert-dir", "", "Directory with certificates for the registry")
	f.StringVar(&p.creds, "creds", "", "Credentials (USERNAME:PASSWORD) to use for the registry")
	f.StringSliceVar(&p.decryptionKeys, "decryption-key", nil, "Key needed to decrypt the image (e.g. /path/to/key.pem)")
	command.Optional(f, &p.retry, "retry", "", "uint", "Number of times to retry in case of failure when pulling images", parseUint)
	f.StringVar(&p.retryDelay, "retry-delay", "", "Delay between retries in case of pull failures")
	command.Optional(f, &p.tlsVerify, "tls-verify", "", "bool", "Require HTTPS and verify certificates when contacting registries for pulling images", strconv.ParseBool)
	f.Lookup("tls-verify").NoOptDefVal = "true"
	// Docker's flag; podman accepts it and does nothing, and so do scripts.
	f.Bool("disable-content-trust", false, "This is a Docker specific option and is a NOOP")
}

func (p *pullFlags) argv() []string {
	var a []string
	one := func(name, value string) {
		if value != "" {
			a = append(a, "--"+name+"="+value)
		}
	}
	one("authfile", p.authFile)
	one("cert-dir", p.certDir)
	one("creds", p.creds)
	one("retry-delay", p.retryDelay)
	for _, k := range p.decryptionKeys {
		one("decryption-key", k)
	}
	if p.tlsVerify != nil {
		one("tls-verify", strconv.FormatBool(*p.tlsVerify))
	}
	if p.retry != nil {
		one("retry", strconv.FormatUint(uint64(*p.retry), 10))
	}
	return a
}

// pull fetches an image with a child process. Its progress goes to standard
// error; the ID that it prints is not this command's output.
func (s *session) pull(ctx context.Context, r engine.PullRequest, p pullFlags) error {
	path, err := front.Libexec(fullName)
	if err != nil {
		return fmt.Errorf("pull %s: %w", r.Name, err)
	}
	args := append(s.globals.Argv(), "pull")
	if r.Policy != "" {
		args = append(args, "--policy="+r.Policy)
	}
	if r.Platform != "" {
		args = append(args, "--platform="+r.Platform)
	}
	if r.Quiet {
		args = append(args, "--quiet")
	}
	args = append(append(args, p.argv()...), "--", r.Name)
	c := exec.CommandContext(ctx, path, args...)
	c.Args[0] = s.program
	c.Stderr = s.stderr
	if err := c.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			// The child has said why.
			return &command.Exit{Code: exit.ExitCode()}
		}
		return fmt.Errorf("pull %s: %w", r.Name, err)
	}
	return nil
}
