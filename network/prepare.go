package network

import (
	"fmt"
	"os"
)

// PrepareNamespace sets up the loopback device of a namespace that somebody
// else made, as NewNamespace does in its own.
func (m *Manager) PrepareNamespace(ns *os.File) error {
	if err := inNamespace(ns, loopbackUp); err != nil {
		return fmt.Errorf("prepare network namespace: %w", err)
	}
	return nil
}
