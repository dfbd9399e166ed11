package quadlet

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// testdata/keys are the keys of podman's units, a section a line.
func TestKeysOfPodman(t *testing.T) {
	data, err := os.ReadFile("testdata/keys")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	for _, l := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		f := strings.Fields(l)
		want[f[0]] = slices.Sorted(slices.Values(f[1:]))
	}
	if len(want) != len(kinds()) {
		t.Errorf("%d kinds, want %d", len(kinds()), len(want))
	}
	for _, k := range kinds() {
		var got []string
		for _, s := range k.steps {
			got = append(got, s.key)
		}
		slices.Sort(got)
		for i, key := range got {
			if i > 0 && key == got[i-1] {
				t.Errorf("[%s] has %s twice", k.section, key)
			}
			if !slices.Contains(want[k.section], key) {
				t.Errorf("[%s] has %s", k.section, key)
			}
		}
		for _, key := range want[k.section] {
			if !slices.Contains(got, key) {
				t.Errorf("[%s] lacks %s", k.section, key)
			}
		}
	}
}

// Every key with a value of its own says something in the command line or the
// service: one that is known and does nothing would be a lie.
func TestEveryKeyDoesSomething(t *testing.T) {
	need := map[string]string{
		"Container": "Image=localhost/x\n", "Kube": "Yaml=/x.yml\n", "Image": "Image=localhost/x\n",
		"Build": "ImageTag=localhost/x\nFile=/f\n", "Artifact": "Artifact=r.example/x\n",
	}
	with := map[string]string{ // what else a key needs
		"Group": "User=1\n", "RemapUid": "RemapUsers=auto\n", "RemapGid": "RemapUsers=auto\n", "RemapUidSize": "RemapUsers=auto\n",
		"Gateway": "Subnet=10.0.0.0/8\n", "IPRange": "Subnet=10.0.0.0/8\n", "Type": "Device=/d\n", "Options": "Device=/d\n", "Image": "Driver=image\n",
		"StartWithPod": "Pod=p.pod\n",
	}
	values := map[string]string{
		"Pod": "p.pod", "Rootfs": "/r", "RemapUsers": "auto", "SetWorkingDirectory": "unit", "Options": "a=b", "ExposeHostPort": "1", "AddDevice": "/dev/null",
		"StartWithPod": "no", "Driver": "bridge", "ReloadCmd": "true",
	}
	for _, k := range kinds() {
		base := "[" + k.section + "]\n" + need[k.section]
		for _, s := range k.steps {
			before := base
			if s.key == "ImageTag" && k.section == "Image" {
				continue // what others call the image
			}
			if k.section == "Volume" || s.key != "Image" && s.key != "Type" && s.key != "Options" {
				before += with[s.key]
			}
			v := "true"
			if x := values[s.key]; x != "" {
				v = x
			}
			if s.key == "Rootfs" {
				before = "[Container]\n"
			}
			if a, b := translated(t, k.ext, before), translated(t, k.ext, before+s.key+"="+v+"\n"); a == b {
				t.Errorf("[%s] %s=%s changes nothing", k.section, s.key, v)
			}
		}
	}
}

// translated are the services of a unit and its pod without the sections that
// systemd passes over.
func translated(t *testing.T, ext, text string) string {
	t.Helper()
	u, err := Parse("/units/x"+ext, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, _ := Parse("/units/p.pod", nil)
	services, err := Translate([]*Unit{u, p}, Options{Program: "hull"})
	out := ""
	if err != nil {
		out = err.Error()
	}
	for _, s := range services {
		s.sections = slices.DeleteFunc(s.sections, func(x *section) bool { return strings.HasPrefix(x.name, "X-") })
		out += s.Name + "\n" + s.String()
	}
	return out
}
