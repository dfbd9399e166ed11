package kube

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hull/engine"
)

func read(t *testing.T, text string) *Objects {
	t.Helper()
	o, err := Read("test.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// A field that does nothing is told of with its line, a cluster's own is not.
func TestUnknownFields(t *testing.T) {
	o := read(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  nodeName: n\n  containers:\n  - name: c\n    image: i\n    imagee: x\n    livenessProbe:\n      grpc: {port: 1}\n---\nkind: Ingress\nmetadata: {name: x}\n")
	want := []string{"test.yml, line 9: field spec.containers[0].imagee does nothing here", "test.yml, line 11: field spec.containers[0].livenessProbe.grpc does nothing here", "test.yml, line 13: objects of kind Ingress do nothing here"}
	if !slices.Equal(o.Warnings, want) {
		t.Errorf("warnings %q, want %q", o.Warnings, want)
	}
}

func TestReadErrors(t *testing.T) {
	for text, want := range map[string]string{
		"kind: Pod\nmetadata: {}\n": "no metadata.name",
		"- a\n":                     "line 1: not an object",
		"kind: Pod\nmetadata: {name: p}\nspec: {containers: 5}\n": "line 3",
		"a: [\n":                "read test.yml",
		"metadata: {name: x}\n": "no kind",
		"kind: Pod\nmetadata: {name: p}\nspec: {hostname: a, hostname: b}\n":     "hostname",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: p}\ndata: {a: [1]}\n": "line 4",
	} {
		if _, err := Read("test.yml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Read(%q): %v, want %q", text, err, want)
		}
	}
}

func TestQuantity(t *testing.T) {
	for s, want := range map[string]float64{"64Mi": 64 << 20, "250m": 0.25, "1": 1, "0.5": 0.5, "1e3": 1000, "2k": 2000, "1E": 1e18, "3Ei": 3 << 60} {
		if v, err := ParseQuantity(s); err != nil || v != want {
			t.Errorf("ParseQuantity(%q) = %v, %v, want %v", s, v, err, want)
		}
	}
	for _, s := range []string{"", "x", "1X", "-1", "1mm", "1i", "NaN", "1 Mi"} {
		if v, err := ParseQuantity(s); err == nil {
			t.Errorf("ParseQuantity(%q) = %v", s, v)
		}
	}
}

// What testdata/all.yml says is what testdata/all.json has.
func TestCompile(t *testing.T) {
	text, err := os.ReadFile("testdata/all.yml")
	if err != nil {
		t.Fatal(err)
	}
	o := read(t, string(text))
	if len(o.Warnings) > 0 {
		t.Errorf("warnings: %q", o.Warnings)
	}
	w, err := Compile(o, PlayOptions{Secret: func(string) (map[string][]byte, error) { return nil, errors.New("not there") }})
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(w, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/all.json"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, _ := os.ReadFile(golden)
	if string(got)+"\n" != string(want) {
		t.Errorf("Compile differs from %s (UPDATE=1 rewrites it):\n%s", golden, got)
	}
}

func TestCompileErrors(t *testing.T) {
	pod := func(spec string) string { return "kind: Pod\nmetadata: {name: p}\nspec: {" + spec + "}\n" }
	one := func(c string) string { return pod("containers: [{name: c, image: i, " + c + "}]") }
	for text, want := range map[string]string{
		pod("containers: []"): "no containers",
		pod("restartPolicy: Sometimes, containers: [{name: c, image: i}]"):                                                                       "restartPolicy",
		one("securityContext: {runAsNonRoot: true}"):                                                                                             "would run as root",
		one("securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../x}}"):                                                      "leaves",
		one("securityContext: {seccompProfile: {type: Strange}}"):                                                                                "Strange",
		one("volumeMounts: [{name: v, mountPath: /v}]"):                                                                                          "no volume of that name",
		one("env: [{name: A, valueFrom: {configMapKeyRef: {name: m, key: k}}}]"):                                                                 "configmap m is not found",
		one("env: [{name: A, valueFrom: {secretKeyRef: {name: m, key: k}}}]"):                                                                    "secret m is not found",
		one("resources: {limits: {memory: many}}"):                                                                                               "many",
		one("imagePullPolicy: Often"):                                                                                                            "Often",
		one("livenessProbe: {tcpSocket: {port: web}}"):                                                                                           "web",
		pod("volumes: [{name: v}], containers: [{name: c, image: i}]"):                                                                           "kind that does not exist here",
		pod("volumes: [{name: v, hostPath: {path: x}}], containers: [{name: c, image: i}]"):                                                      "not absolute",
		pod("volumes: [{name: v, emptyDir: {}}], containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /v, subPath: ../../x}]}]"): "leaves the volume",
	} {
		if _, err := Compile(read(t, text), PlayOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Compile(%q): %v, want %q", text, err, want)
		}
	}
}

func TestExpand(t *testing.T) {
	e := &environment{values: map[string]string{"A": "1"}}
	for s, want := range map[string]string{"$(A)": "1", "$$(A)": "$(A)", "$(B)": "$(B)", "$": "$", "x$(A": "x$(A", "$A": "$A"} {
		if got := e.expand(s); got != want {
			t.Errorf("expand(%q) = %q, want %q", s, got, want)
		}
	}
}

// What Generate writes of a container makes the same container.
func TestRoundTrip(t *testing.T) {
	uid := uint(7)
	limit := int64(50)
	o := engine.CreateOptions{Image: "localhost/app:1", Env: []string{"A=1", "B=$(A)"}, Command: []string{"run", "x"}, WorkingDir: "/w", User: "5:6", ReadOnly: true,
		CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"CHOWN"}, SecurityOpt: []string{"no-new-privileges"}, Terminal: true, StopTimeout: &uid, StopSignal: "SIGUSR1",
		Restart: "always", Resources: engine.Resources{Memory: 64 << 20, CPUs: 0.5, PidsLimit: &limit},
		Health: &engine.Health{Test: []string{"CMD", "true"}, Interval: 5 * time.Second, Timeout: 2 * time.Second, Retries: 4, OnFailure: "restart"},
		Mounts: []engine.Mount{{Type: "volume", Source: "data", Destination: "/data"}, {Type: "tmpfs", Destination: "/t", Options: []string{"size=1m"}}}}
	entry := []string{"/init"}
	o.Entrypoint = &entry
	p := engine.PodDescription{Name: "app", Members: []engine.Description{{Name: "app-main", Image: o.Image, Options: o, Mounts: o.Mounts}}}
	p.Options.Restart = "always"
	objects, warnings, err := Generate(p, GenerateOptions{Own: true, Service: true, Now: time.Unix(0, 0)})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("Generate: %v, %q", err, warnings)
	}
	text, err := Write(objects)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Compile(read(t, string(text)), PlayOptions{})
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	got := w.Pods[0].Containers[0]
	o.Name, o.Pod, o.Pull, o.HTTPProxy, o.Labels, o.Annotations = "app-main", "app", "missing", true, got.Labels, got.Annotations
	o.Mounts[1].Options = []string{"size=1048576"}
	a, _ := json.MarshalIndent(o, "", " ")
	b, _ := json.MarshalIndent(got, "", " ")
	if string(a) != string(b) {
		t.Errorf("before:\n%s\nafter:\n%s\ntext:\n%s", a, b, text)
	}
}
