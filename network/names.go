package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// writeNames publishes a container's names on one network: a file with a line
// of names, one of addresses, and one of what the container's own name server
// does with other names, read by the name servers at each query, so that a name
// is known as soon as its container has its network.
func (m *Manager) writeNames(r record, j Joined) error {
	if !j.DNS {
		return nil
	}
	dir, err := m.NamesDir()
	if err != nil {
		return err
	}
	names := []string{short(r.Container)}
	for _, n := range append([]string{r.Name}, j.Aliases...) {
		if n != "" && !strings.ContainsAny(n, " \n\t") {
			names = append(names, strings.ToLower(n))
		}
	}
	// The container's own name comes first: it is the answer to PTR.
	if len(names) > 1 {
		names[0], names[1] = names[1], names[0]
	}
	var addresses []string
	for _, a := range j.Addresses {
		addresses = append(addresses, a.Addr().String())
	}
	var rest []string
	if j.Internal {
		rest = append(rest, "internal")
	}
	for _, a := range j.DNSServer {
		if a != UserDNS { // who answers is not in the user's namespace
			rest = append(rest, a.String())
		}
	}
	text := strings.Join(names, " ") + "\n" + strings.Join(addresses, " ") + "\n" + strings.Join(rest, " ") + "\n"
	if err := writeVolatile(filepath.Join(dir, j.Network, r.Container), []byte(text)); err != nil {
		return fmt.Errorf("publish the names of container %s: %w", short(r.Container), err)
	}
	return nil
}

func (m *Manager) removeNames(container, network string) error {
	dir, err := m.NamesDir()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, network, container)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the names of container %s: %w", short(container), err)
	}
	_ = os.Remove(filepath.Dir(path)) // when it was the last
	return nil
}
