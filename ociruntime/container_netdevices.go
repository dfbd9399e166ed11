package ociruntime

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"hull/network"
	"hull/oci"
)

// movesDevices reports whether devices of the host go into the container's network namespace.
func movesDevices(spec *oci.Spec) bool { return spec.Linux != nil && len(spec.Linux.NetDevices) > 0 }

// moveDevices moves them while the container's process waits. At its end the kernel gives back
// what is hardware: the specification wants the runtime to leave that to it.
func moveDevices(l *oci.Linux, pid int) error {
	ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return fmt.Errorf("move network devices: %w", err)
	}
	defer ns.Close()
	return network.MoveDevices(ns, netDevices(l))
}

func netDevices(l *oci.Linux) []network.HostDevice {
	var list []network.HostDevice
	for name, d := range l.NetDevices {
		list = append(list, network.HostDevice{Name: name, As: d.Name})
	}
	return list
}

func validateNetDevices(l *oci.Linux, ownNetwork bool) error {
	if len(l.NetDevices) > 0 && !ownNetwork {
		return errors.New("linux.netDevices without a network namespace: there is nowhere to move them")
	}
	names := make(map[string]string)
	for _, d := range netDevices(l) {
		if err := d.Validate(); err != nil {
			return fmt.Errorf("linux.netDevices: %w", err)
		}
		as := d.As
		if as == "" {
			as = d.Name
		}
		if other, twice := names[as]; twice && !strings.Contains(as, "%d") {
			return fmt.Errorf("linux.netDevices: %s and %s would both be %s", min(d.Name, other), max(d.Name, other), as)
		}
		names[as] = d.Name
	}
	return nil
}
