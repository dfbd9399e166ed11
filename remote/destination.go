package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"syscall"
)

// A Destination is where a connection leads.
type Destination struct {
	URI      string
	Identity string // file of the key to log in with; "" leaves it to ssh
	// rest are fields of other programs, which stay as they are.
	rest map[string]json.RawMessage
}

// UnmarshalJSON reads a connection of podman-connections.json.
func (d *Destination) UnmarshalJSON(data []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	for key, field := range map[string]*string{"URI": &d.URI, "Identity": &d.Identity} {
		if raw, ok := all[key]; ok {
			if err := json.Unmarshal(raw, field); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			delete(all, key)
		}
	}
	d.rest = all
	return nil
}

// MarshalJSON writes it as it is read.
func (d Destination) MarshalJSON() ([]byte, error) {
	all := map[string]any{"URI": d.URI}
	if d.Identity != "" {
		all["Identity"] = d.Identity
	}
	for k, v := range d.rest {
		all[k] = v
	}
	return json.Marshal(all)
}

// A Login is what ssh is told of a destination.
type Login struct {
	User, Host, Port string // User and Port may be empty: ssh's own then
	Identity         string
}

// ParseURI reads ssh://[USER@]HOST[:PORT][/PATH] or [USER@]HOST[:PORT]. No part
// of it can be taken for an option by ssh.
func ParseURI(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "ssh://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse destination: %w", err)
	}
	if u.Scheme != "ssh" {
		return nil, &schemeError{text, u.Scheme}
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("parse destination %q: it names no host", text)
	}
	for _, part := range []string{u.User.Username(), u.Hostname()} {
		if !PlainWord(part) && part != "" {
			return nil, fmt.Errorf("parse destination %q: %q is no name of a user or a host", text, part)
		}
	}
	if _, has := u.User.Password(); has {
		return nil, fmt.Errorf("parse destination %q: a password in it could be read by everybody: ssh asks for it, or takes a key", u.Redacted())
	}
	return u, nil
}

// schemeError is a destination that is a service's.
type schemeError struct{ text, scheme string }

func (e *schemeError) Error() string {
	return fmt.Sprintf("use destination %q: %s leads to a service, and none is needed here", e.text, e.scheme)
}

func (e *schemeError) Hint() string {
	return "give the host by ssh, as ssh://user@host: hull is called there"
}

// PlainWord says whether a name is safe as an argument of ssh and in a shell's
// single quotes: it is not empty, no option, and has no blanks, quotes or
// control characters.
func PlainWord(s string) bool {
	return s != "" && !strings.HasPrefix(s, "-") && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == 127 || strings.ContainsRune("'\"\\", r)
	})
}

// Login is what of the destination concerns ssh.
func (d Destination) Login() (Login, error) {
	u, err := ParseURI(d.URI)
	if err != nil {
		return Login{}, err
	}
	return Login{User: u.User.Username(), Host: u.Hostname(), Port: u.Port(), Identity: d.Identity}, nil
}

// Command is ssh with a script for the shell of the other host. flags are
// further ones of ssh. Who cancels it waits for it.
func (l Login) Command(ctx context.Context, script string, flags ...string) *exec.Cmd {
	argv := append([]string{}, flags...)
	if l.Port != "" {
		argv = append(argv, "-p", l.Port)
	}
	if l.Identity != "" {
		argv = append(argv, "-i", l.Identity)
	}
	target := l.Host
	if l.User != "" {
		target = l.User + "@" + l.Host
	}
	c := exec.CommandContext(ctx, "ssh", append(argv, "--", target, script)...)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	return c
}

// Quote makes one word of a shell of s.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Words quotes each of a command line.
func Words(argv ...string) string {
	quoted := make([]string, len(argv))
	for i, a := range argv {
		quoted[i] = Quote(a)
	}
	return strings.Join(quoted, " ")
}

// Find is a script's beginning that sets p to the first of programs that the
// host has, and ends the script when it has none.
func Find(programs ...string) string {
	names := strings.Join(programs, " ")
	return fmt.Sprintf(`p=; for x in %s; do if command -v "$x" >/dev/null; then p=$x; break; fi; done; `+
		`if [ -z "$p" ]; then echo "none of %s is installed" >&2; exit 127; fi; `, names, names)
}
