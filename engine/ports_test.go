package engine

import "testing"

func TestParseNetwork(t *testing.T) {
	for s, want := range map[string]string{
		"bridge":                      "bridge ",
		"podman:ip=10.88.0.9":         "bridge podman",
		"front:alias=a,alias=b":       "bridge front",
		"front:host_interface_name=x": "bridge front",
		"none":                        "none",
		"host":                        "host",
		"container:x":                 "container:x",
		"ns:/proc/1/ns/net":           "ns:/proc/1/ns/net",
		"none:x":                      "!",
		"container:":                  "!",
		"front:ip=nonsense":           "!",
		"front:ip6=10.0.0.1":          "!",
		"front:alias":                 "!",
		"front:colour=red":            "!",
		":ip=1.1.1.1":                 "!",
	} {
		mode, attach, err := ParseNetwork([]string{s})
		got := mode
		if len(attach) > 0 {
			got += " " + attach[0].Name
		}
		if want == "!" && err == nil || want != "!" && (err != nil || got != want) {
			t.Errorf("ParseNetwork(%q) = %q, %v, want %q", s, got, err, want)
		}
	}
}
