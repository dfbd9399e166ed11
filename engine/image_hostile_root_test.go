package engine

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hull/image"
	"hull/oci"
)

// imageOf makes an image of the harness's root with a config of exactly these
// bytes, in which DIFF stands for the layer's digest.
func (h *harness) imageOf(name, config string, annotations map[string]string) {
	h.Helper()
	base := h.importRootfs("base:1")
	store, err := h.e.Images()
	if err != nil {
		h.Fatal(err)
	}
	ref, err := image.ParseName(name)
	if err != nil {
		h.Fatal(err)
	}
	config = strings.ReplaceAll(config, "DIFF", string(base.Layers[0].Diff))
	if !json.Valid([]byte(config)) {
		h.Fatalf("no JSON: %s", config)
	}
	_, err = store.CreateRaw(context.Background(), []byte(config), base.Layers, image.CreateOptions{Names: []oci.Reference{ref}, Annotations: annotations})
	if err != nil {
		h.Fatal(err)
	}
}

// specOf is the config.json of a container of an image.
func (h *harness) specOf(name string) string {
	h.Helper()
	dir := h.TempDir()
	if err := h.e.Bundle(context.Background(), dir, CreateOptions{Image: name, NetworkMode: "none", Hostname: "box"}); err != nil {
		h.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		h.Fatal(err)
	}
	return strings.ReplaceAll(string(data), dir, "DIR")
}

const cleanConfig = `{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["true"]},"rootfs":{"type":"layers","diff_ids":["DIFF"]}}`

// Rows IMG-01, IMG-04 and IMG-06: what an image says beyond its config, in keys
// that mean something elsewhere, in labels and annotations, changes nothing of
// the container.
func TestIMG01HostileConfig(t *testing.T) {
	h := newHarness(t)
	h.imageOf("clean:1", cleanConfig, nil)
	want := h.specOf("clean:1")
	rights := `"HostConfig":{"Privileged":true,"CapAdd":["ALL"],"SecurityOpt":["seccomp=unconfined"],"Binds":["/:/host"],"PidMode":"host","Devices":[{"PathOnHost":"/dev/sda"}]},` +
		`"Privileged":true,"CapAdd":["ALL"],"capabilities":["CAP_SYS_ADMIN"],"SecurityOpt":["apparmor=unconfined"],"Binds":["/:/host"],` +
		`"hooks":{"prestart":[{"path":"/bin/touch","args":["touch","/tmp/canary"]}]},"linux":{"devices":[{"path":"/dev/mem"}]},"mounts":[{"source":"/"}],"process":{"capabilities":{}}`
	config := strings.Replace(cleanConfig, `"config":{`, `"container_config":{`+rights+`},`+rights+`,"config":{`+rights+`,`, 1)
	h.imageOf("rights:1", config, nil)
	if got := h.specOf("rights:1"); got != want {
		t.Errorf("IMG-01: the container of a config with rights is another:\n%s\nwant\n%s", got, want)
	}
	reserved := map[string]string{}
	for _, k := range []string{
		"io.podman.annotations.privileged", "io.podman.annotations.seccomp", "io.podman.annotations.label", "io.podman.annotations.autoremove", "io.podman.annotations.cid-file",
		"io.container.manager", "io.kubernetes.cri-o.userns-mode", "io.kubernetes.cri-o.Devices", "io.kubernetes.cri-o.UnifiedCgroup", "io.kubernetes.cri.untrusted-workload",
		"io.containerd.runc.v2.group", "io.containerd.cri.runtime-handler", "io.containers.capabilities", "run.oci.handler", "run.oci.hooks.stderr", "run.oci.keep_original_groups",
		"run.oci.systemd.subgroup", "run.oci.mount_context_type", "run.oci.seccomp_fail_unknown_syscall", "module.wasm.image/variant", "krun.use_passt", "org.criu.config", "org.systemd.property.CPUQuota",
		"io.podman.annotations.checkpoint.name", "io.podman.annotations.checkpoint.runtime.name", "org.opencontainers.image.checkpoint", "com.docker.security.privileged",
		"hull.privileged", "hull.seccomp", "io.hull.privileged", "hull.security", "bundle", "native.cgroupdriver", "com.docker.network.bridge.name",
	} {
		for _, v := range []string{"true", "host"} {
			reserved[k] = v
		}
	}
	labels, _ := json.Marshal(reserved)
	h.imageOf("labels:1", strings.Replace(cleanConfig, `"config":{`, `"config":{"Labels":`+string(labels)+`,`, 1), reserved)
	if got := h.specOf("labels:1"); got != want {
		t.Errorf("IMG-04, IMG-06: the container of an image with labels and annotations is another:\n%s\nwant\n%s", got, want)
	}
}

// Row IMG-05: what an image calls a variable never names one of the host's.
func TestIMG05HostileEnv(t *testing.T) {
	h := newHarness(t)
	for k, v := range map[string]string{"FOO": "canary", "A1": "canary", "HULL_SECRET": "canary"} {
		t.Setenv(k, v)
	}
	for _, env := range []string{`"FOO"`, `"*"`, `"A*"`, `"HULL_*"`, `""`, `"=x"`, `"=FOO"`, `"FOO\u0000=x"`, `"B=x\u0000FOO"`, `"B=$FOO"`, `"B=${FOO}"`} {
		h.imageOf("env:1", strings.Replace(cleanConfig, `"PATH=/bin"`, `"PATH=/bin",`+env, 1), nil)
		code, out, errs, err := h.run(CreateOptions{Image: "env:1", NetworkMode: "none", Command: []string{"env"}, AutoRemove: true})
		if strings.Contains(out+errs, "canary") {
			t.Errorf("%s: the host's environment was read: %s", env, out)
		}
		for line := range strings.Lines(out) {
			if name, _, ok := strings.Cut(line, "="); !ok || name == "" || name == "FOO" {
				t.Errorf("%s: the container has %q", env, line)
			}
		}
		if err == nil && code != 0 {
			t.Errorf("%s: exit code %d: %s", env, code, errs)
		}
	}
}

// Row IMG-02: an image's volumes are made and filled inside of the container's
// root, whatever they are called.
func TestIMG02HostileVolumes(t *testing.T) {
	h := newHarness(t)
	host := filepath.Join(h.dir, "host")
	if err := os.MkdirAll(host, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(host, "canary"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"out": host, "up": "../../../../../../.." + host, "self": "/proc/self/root" + host, "cwd": "/proc/self/cwd"} {
		if err := os.Symlink(to, filepath.Join(h.rootfs, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, volume := range []string{"/out", "/up", "/self", "/out/sub", "/cwd", "/../../.." + host, "/a/../../.." + host, "relative", "/proc", "/proc/self", "/sys", "/", "", "."} {
		name, _ := json.Marshal(volume)
		h.imageOf("volume:1", strings.Replace(cleanConfig, `"Cmd"`, `"Volumes":{`+string(name)+`:{}},"Cmd"`, 1), nil)
		_, out, errs, err := h.run(CreateOptions{Image: "volume:1", NetworkMode: "none", AutoRemove: true, Command: []string{"sh", "-c", "cat /out/canary /up/canary /self/canary " + host + "/canary; grep canary /proc/mounts; echo x > /out/new; echo x > /self/new"}})
		if strings.Contains(out+errs, "secret") {
			t.Errorf("VOLUME %q: the host's file was read", volume)
		}
		if entries, rerr := os.ReadDir(host); rerr != nil || len(entries) != 1 {
			t.Errorf("VOLUME %q: the host's directory changed: %v, %v", volume, entries, rerr)
		}
		_ = err // refused is as good as harmless
		_ = errs
	}
}
