package network

import "fmt"

// Container returns what a container got from Setup, without held sockets. The
// error is fs.ErrNotExist for one that has no network.
func (m *Manager) Container(id string) (Status, error) {
	r, err := m.readRecord(id)
	if err != nil {
		return Status{}, fmt.Errorf("networks of container %s: %w", short(id), err)
	}
	return Status{Networks: r.Networks, Ports: r.Ports}, nil
}
