package network

import "fmt"

// Known fails with ErrNotFound when there is no network of the name, ID or ID
// prefix.
func (m *Manager) Known(name string) error {
	_, err := m.load(name)
	return err
}

// Container returns what a container got from Setup, without held sockets. The
// error is fs.ErrNotExist for one that has no network.
func (m *Manager) Container(id string) (Status, error) {
	r, err := m.readRecord(id)
	if err != nil {
		return Status{}, fmt.Errorf("networks of container %s: %w", short(id), err)
	}
	return Status{Networks: r.Networks, Ports: r.Ports}, nil
}
