package cli

import (
	"slices"
	"strings"
	"testing"
)

func TestWithoutFlags(t *testing.T) {
	var u unitFlags
	for in, want := range map[string]string{
		"-d --rm --name c": "--name c",
		"-dit --name=c":    "-it --name=c",
		"-itd":             "-it",
		"-itdeA=1":         "-iteA=1",
		"-de A=1":          "-e A=1",
		"--restart always --cgroups=split -v a:b":  "-v a:b",
		"--detach=true --rm=false --label --rm":    "--label --rm",
		"--cidfile x --conmon-pidfile y -e -d -i":  "-e -d -i",
		"--sdnotify conmon --no-such-flag --rm -d": "--sdnotify conmon --no-such-flag",
	} {
		got := u.without(strings.Fields(in), "detach", "rm", "cgroups", "cidfile", "conmon-pidfile", "restart")
		if !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}
