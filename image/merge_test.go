package image

import (
	"reflect"
	"testing"

	"hull/oci"
)

func TestMergeConfig(t *testing.T) {
	over, err := DecodeConfig([]byte(`{"User":"me","Cmd":["x"],"Entrypoint":[],"Env":["A=2","C=3"],"Labels":{"b":"2"},"ExposedPorts":{"1/tcp":{}},"Hostname":"ignored"}`))
	if err != nil {
		t.Fatal(err)
	}
	base := oci.ImageConfig{User: "root", WorkingDir: "/w", Entrypoint: []string{"e"}, Env: []string{"A=1", "B=1"}, Labels: map[string]string{"a": "1"}}
	labels := base.Labels
	MergeConfig(&base, over)
	want := oci.ImageConfig{User: "me", WorkingDir: "/w", Cmd: []string{"x"}, Entrypoint: []string{}, Env: []string{"A=2", "B=1", "C=3"},
		Labels: map[string]string{"a": "1", "b": "2"}, ExposedPorts: map[string]struct{}{"1/tcp": {}}}
	if !reflect.DeepEqual(base, want) {
		t.Errorf("got %+v, want %+v", base, want)
	}
	if len(labels) != 1 {
		t.Error("the image's own labels changed")
	}
	for _, bad := range []string{"", "[]", `{"User":1}`, `{"User":"a","user":"b"}`, `{} x`} {
		if _, err := DecodeConfig([]byte(bad)); err == nil {
			t.Errorf("DecodeConfig(%q): no error", bad)
		}
	}
}
