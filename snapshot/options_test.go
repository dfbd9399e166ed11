package snapshot

import (
	"reflect"
	"testing"
)

func TestSetStorageOptions(t *testing.T) {
	for _, c := range []struct {
		opts []string
		want Options
		bad  bool
	}{
		{opts: []string{"mountopt=nodev,noexec", "overlay.mountopt=nosuid"}, want: Options{MountOptions: []string{"nodev", "noexec", "nosuid"}}},
		{opts: []string{"overlay.ignore_chown_errors=true"}, want: Options{IgnoreChown: true}},
		{opts: []string{"maxlayersize=10g", "maxlayerfiles=1000"}, want: Options{MaxLayerSize: 10 << 30, MaxLayerFiles: 1000}},
		{opts: []string{"maxlayersize=-1"}, want: Options{MaxLayerSize: -1}},
		{opts: []string{"maxlayersize=7"}, want: Options{MaxLayerSize: 7}},
		{opts: []string{"maxlayersize="}, bad: true},
		{opts: []string{"maxlayersize=9000000000t"}, bad: true},
		{opts: []string{"mountopt"}, bad: true},
		{opts: []string{"overlay.what=1"}, bad: true},
	} {
		var got Options
		err := got.SetStorageOptions(c.opts)
		if (err != nil) != c.bad || err == nil && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, %v, want %+v", c.opts, got, err, c.want)
		}
	}
}
