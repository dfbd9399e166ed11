package build

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"hull/engine"
)

// ssh mounts the socket of an agent: the caller's, or one of this process with
// the keys of files. The program in the container gets signatures, never a key.
func (m *mounts) ssh(st *stage, x *instructions.Mount, target string, n int) error {
	id := x.CacheID
	if id == "" {
		id = "default"
	}
	if target == "" {
		target = "/run/buildkit/ssh_agent." + strconv.Itoa(n)
	}
	m.keys = append(m.keys, []any{"ssh", id, target, x.Mode, x.UID, x.GID})
	from, ok := st.b.o.SSH[id]
	if !ok {
		if x.Required {
			return &hintError{fmt.Errorf("the ssh agent %s is required and was not given", id), "give it with --ssh " + id}
		}
		return nil
	}
	m.later = append(m.later, func(context.Context) error {
		serve, err := agentOf(from)
		if err != nil {
			return fmt.Errorf("use ssh agent %s: %w", id, err)
		}
		dir, err := st.b.secretTemp("ssh")
		if err != nil {
			return err
		}
		socket := filepath.Join(dir, "agent")
		l, err := net.Listen("unix", socket)
		if err != nil {
			return fmt.Errorf("use ssh agent %s: %w", id, err)
		}
		m.releases = append(m.releases, func() { l.Close() })
		if err := os.Chmod(socket, os.FileMode(number(x.Mode, 0o600))); err != nil {
			return err
		}
		if err := os.Chown(socket, int(number(x.UID, 0)), int(number(x.GID, 0))); err != nil {
			return err
		}
		go accept(l, serve)
		m.extra = append(m.extra, engine.Mount{Type: "bind", Source: socket, Destination: target, Options: []string{"ro", "Z"}})
		m.secretEnv = append(m.secretEnv, "SSH_AUTH_SOCK="+target)
		return nil
	})
	return nil
}

func accept(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed at the step's end
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}

// agentOf returns what answers on a connection: from is a socket, or private
// keys, comma-separated.
func agentOf(from string) (func(net.Conn), error) {
	files := strings.Split(from, ",")
	if info, err := os.Stat(files[0]); err == nil && info.Mode()&os.ModeSocket != 0 {
		return func(c net.Conn) {
			up, err := net.Dial("unix", files[0])
			if err != nil {
				return // the program sees a connection that closes
			}
			defer up.Close()
			go func() {
				_, _ = io.Copy(up, c)
				if u, ok := up.(*net.UnixConn); ok {
					_ = u.CloseWrite()
				}
			}()
			_, _ = io.Copy(c, up)
		}, nil
	}
	keys := agent.NewKeyring()
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		k, err := ssh.ParseRawPrivateKey(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		if err := keys.Add(agent.AddedKey{PrivateKey: k}); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
	}
	return func(c net.Conn) { _ = agent.ServeAgent(keys, c) }, nil
}
