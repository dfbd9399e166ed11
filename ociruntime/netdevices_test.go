package ociruntime

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hull/oci"
)

// hostNetwork gives the test's thread a network namespace for the host's, and returns what
// runs a command there. The thread ends with the test.
func hostNetwork(t *testing.T) func(command string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	return func(command string) string {
		t.Helper()
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		return string(out)
	}
}

func withDevices(list map[string]oci.LinuxNetDevice) func(*oci.Spec) {
	return func(s *oci.Spec) { s.Linux.NetDevices = list }
}

// Devices are in the container before its program runs, also for sysctls and hooks; also in a
// user namespace and in a network namespace that was there before.
func TestNetDevices(t *testing.T) {
	host := hostNetwork(t)
	script := "busybox ip -o addr show dev net7 | grep -q '10.9.8.7/24' && busybox ip -o link show dev net7 | grep -q 'UP' && test $(cat /proc/sys/net/ipv4/conf/net7/forwarding) = 1"
	log := filepath.Join(t.TempDir(), "log")
	for name, change := range map[string]func(*oci.Spec){
		"own": func(*oci.Spec) {},
		"hook": func(s *oci.Spec) {
			s.Hooks = &oci.Hooks{CreateContainer: []oci.Hook{{Path: "/bin/busybox", Args: []string{"sh", "-c", "busybox ip -o link show dev net7 >>" + log}}}}
		},
		"user namespace": func(s *oci.Spec) {
			for d := s.Root.Path; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
				os.Chmod(d, 0o755)
			}
			withUserNS(s)
			s.Linux.UIDMappings[0].Size = 1000
		},
		"joined": func(s *oci.Spec) {
			host("ip netns add hull-netdev-test")
			for i := range s.Linux.Namespaces {
				if n := &s.Linux.Namespaces[i]; n.Type == oci.NetworkNamespace {
					n.Path = "/run/netns/hull-netdev-test"
				}
			}
		},
	} {
		host("ip link add dm0 type veth peer name px0 && ip addr add 10.9.8.7/24 dev dm0")
		r, b := bundle(t, func(s *oci.Spec) {
			withDevices(map[string]oci.LinuxNetDevice{"dm0": {Name: "net7"}})(s)
			s.Linux.Sysctl = map[string]string{"net.ipv4.conf.net7.forwarding": "1"}
			change(s)
		}, "sh", "-c", script)
		code, err := r.Run(context.Background(), "c", RunOptions{CreateOptions: CreateOptions{Bundle: b, Stderr: os.Stderr}})
		if code != 0 || err != nil {
			t.Errorf("%s: Run = %d, %v", name, code, err)
		}
		if name == "joined" {
			host("ip netns delete hull-netdev-test")
		}
		host("ip link delete px0 2>/dev/null || true")
	}
	if data, _ := os.ReadFile(log); !bytes.Contains(data, []byte("net7@")) {
		t.Errorf("the hook saw %q", data)
	}
}

// What cannot be moved is an error, and nothing of the container is left.
func TestNetDevicesRefused(t *testing.T) {
	host := hostNetwork(t)
	host("ip link add dm0 type veth peer name px0 && ip addr add 10.9.8.7/24 dev dm0")
	for want, change := range map[string]func(*oci.Spec){
		"no such device": withDevices(map[string]oci.LinuxNetDevice{"dm0": {Name: "a"}, "zz": {}}),
		"file exists":    withDevices(map[string]oci.LinuxNetDevice{"dm0": {Name: "lo"}}),
		"would both be":  withDevices(map[string]oci.LinuxNetDevice{"dm0": {Name: "a"}, "px0": {Name: "a"}}),
		"is not valid":   withDevices(map[string]oci.LinuxNetDevice{"dm0": {Name: "a/b"}}),
		"has two places": withDevices(map[string]oci.LinuxNetDevice{"dm0": {Name: "a%d%d"}}),
		"there is nowhere to move": func(s *oci.Spec) {
			withoutNamespace(s, oci.NetworkNamespace)
			withDevices(map[string]oci.LinuxNetDevice{"dm0": {}})(s)
		},
	} {
		r, b := bundle(t, change, "true")
		if _, err := r.Create(context.Background(), "c", CreateOptions{Bundle: b}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Create = %v, want an error with %q", err, want)
		}
		if _, err := os.Stat(filepath.Join(r.Root, "c")); err == nil {
			t.Errorf("%s: the container's directory is left", want)
		}
		if out := host("ip -o addr show dev dm0"); !strings.Contains(out, "10.9.8.7/24") {
			t.Errorf("%s: the device is not as before: %s", want, out)
		}
	}
	spec := basicSpec("/nowhere", "true")
	withDevices(map[string]oci.LinuxNetDevice{"dm0": {}})(spec)
	if _, _, err := Compile(spec, CompileOptions{}); err == nil || !strings.Contains(err.Error(), "does not move") {
		t.Errorf("Compile for one who does not move them = %v", err)
	}
}
