package cli

import (
	"os"
	"slices"
	"testing"

	"hull/image"
	"hull/oci"
)

func TestLabelCommand(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	img := image.Image{Names: []oci.Reference{{Domain: "localhost", Path: "team/app", Tag: "1"}}}
	for text, want := range map[string][]string{
		"podman run --rm IMAGE true":                           {"run", "--rm", "localhost/team/app:1", "true"},
		"/usr/bin/docker run --name NAME -e A=IMAGE IMAGE":     {"run", "--name", "app", "-e", "A=localhost/team/app:1", "localhost/team/app:1"},
		`hull run -v "$PWD":/w ${IMAGE} echo '$NAME' ${OPT1}`: {"run", "-v", dir + ":/w", "localhost/team/app:1", "echo", "app"},
		"ls -la /etc":                                          nil,
		"sh -c 'podman run x'":                                 nil,
		"podman":                                               nil,
		"podman run 'IMAGE":                                    nil,
		"":                                                     nil,
	} {
		got, err := labelCommand(text, "app:1", img, "")
		if (err != nil) != (want == nil) || !slices.Equal(got, want) {
			t.Errorf("labelCommand(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
	if got, _ := labelCommand("podman run --name NAME IMAGE", "app:1", img, "mine"); !slices.Contains(got, "mine") {
		t.Errorf("--name: %q", got)
	}
}
