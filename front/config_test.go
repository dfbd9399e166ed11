package front

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func writeConf(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadConfigLaysFilesAboveEachOther(t *testing.T) {
	t.Setenv("CONTAINERS_CONF", writeConf(t, "base.conf", "[containers]\nenv=['A=1']\nannotations=['x=1']\npids_limit=5\nshm_size='1m'\nfuture_key={}\n[engine]\nhooks_dir=['/h']\nstop_timeout=3\nruntimes={crun=['/usr/bin/crun']}\n"))
	t.Setenv("CONTAINERS_CONF_OVERRIDE", writeConf(t, "over.conf", "[containers]\nenv=['B=2',{append=true}]\nhttp_proxy=false\n[machine]\ncpus='many'\n"))
	module := writeConf(t, "mod.conf", "[containers]\nenv=['C=3',{append=true}]\nannotations=['y=2']\ndefault_ulimits=['nofile=1:2']\ndefault_capabilities=['kill','CAP_CHOWN']\n")
	c, err := LoadConfig([]string{module})
	if err != nil {
		t.Fatal(err)
	}
	d := c.Defaults
	if want := []string{"A=1", "C=3", "B=2"}; !slices.Equal(d.Env, want) {
		t.Errorf("env %q, want %q", d.Env, want)
	}
	if len(d.Annotations) != 1 || d.Annotations["y"] != "2" {
		t.Errorf("annotations %v: the later list replaces the earlier", d.Annotations)
	}
	if d.PidsLimit == nil || *d.PidsLimit != 5 || d.ShmSize != 1<<20 || d.StopTimeout != 3 || !d.NoHTTPProxy {
		t.Errorf("numbers and flags: %+v", d)
	}
	if want := []string{"CAP_KILL", "CAP_CHOWN"}; !slices.Equal(d.Capabilities, want) {
		t.Errorf("capabilities %q, want %q", d.Capabilities, want)
	}
	if len(d.Ulimits) != 1 || d.Ulimits[0].Hard != 2 || !slices.Equal(c.HooksDirs, []string{"/h"}) || len(c.Runtimes["crun"]) != 1 {
		t.Errorf("lists: %+v", c)
	}
}

func TestLoadConfigRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"[containers]\nenv=3\n":                        "containers.env: want a list",
		"[containers]\nenv=[{append=1}]\n":             "containers.env: want a list",
		"[containers]\ninit='yes'\n":                   "containers.init: want true or false",
		"[containers]\ntz=1\n":                         "containers.tz: want a string",
		"[containers]\noom_score_adj=1001\n":           "-1000 to 1000",
		"[containers]\ndefault_ulimits=['nofile']\n":   "containers.default_ulimits",
		"[containers]\ndefault_capabilities=['FLY']\n": "\"FLY\" is not known",
		"[containers]\nannotations=['x']\n":            "want NAME=VALUE",
		"containers=1\n":                               "containers: want a section",
		"[containers\n":                                "line 1",
	} {
		t.Setenv("CONTAINERS_CONF", writeConf(t, "c.conf", text))
		if _, err := LoadConfig(nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want …%s…", text, err, want)
		}
	}
	t.Setenv("CONTAINERS_CONF", filepath.Join(t.TempDir(), "none"))
	if _, err := LoadConfig(nil); err == nil {
		t.Error("a file that CONTAINERS_CONF names and that is not there is no error")
	}
	t.Setenv("CONTAINERS_CONF", "/dev/null")
	if _, err := LoadConfig([]string{"no-such-module"}); err == nil {
		t.Error("a module that is not there is no error")
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("[containers]\nenv=['A=1',{append=true}]\nshm_size='1g'\n[engine.runtimes]\nx=['/y']\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Config
		c.read(data) // an error or not, but it returns
	})
}
