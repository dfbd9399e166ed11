package engine

import (
	"slices"
	"strings"
	"testing"
)

func TestPodState(t *testing.T) {
	for _, c := range []struct{ states, want string }{
		{"", PodCreated}, {"created created", PodCreated}, {"running running", PodRunning}, {"running exited", PodDegraded}, {"running created", PodDegraded},
		{"paused paused", PodPaused}, {"exited stopped", PodExited}, {"exited created", PodStopped}, {"stopping running", PodRunning}, {"nonsense", PodErrored},
	} {
		var list []member
		for s := range strings.FieldsSeq(c.states) {
			list = append(list, member{&record{}, &runState{Status: s}})
		}
		if got := podState(list); got != c.want {
			t.Errorf("%q is %s, want %s", c.states, got, c.want)
		}
	}
}

func TestPodShares(t *testing.T) {
	for _, c := range []struct {
		o    PodOptions
		want string
	}{
		{PodOptions{}, "ipc net uts"},
		{PodOptions{Share: []string{"pid", "net", "net"}}, "net pid"},
		{PodOptions{Share: []string{"none"}}, ""},
		{PodOptions{NoInfra: true}, ""},
		{PodOptions{Infra: CreateOptions{UserNS: "auto"}}, "ipc net user uts"},
		{PodOptions{Share: []string{"net"}, Infra: CreateOptions{UIDMap: []string{"0:1:1"}}}, "net user"},
	} {
		if got := strings.Join((&podRecord{Options: c.o}).shares(), " "); got != c.want {
			t.Errorf("%+v shares %q, want %q", c.o.Share, got, c.want)
		}
	}
}

func TestPodWaves(t *testing.T) {
	one := func(id string, needs ...string) member { return member{&record{ID: id, Depends: needs}, &runState{}} }
	var got []string
	for _, w := range waves([]member{one("c", "b", "infra"), one("infra"), one("b", "infra", "elsewhere"), one("a", "infra")}) {
		var ids []string
		for _, m := range w {
			ids = append(ids, m.r.ID)
		}
		got = append(got, strings.Join(ids, "+"))
	}
	if want := []string{"infra", "b+a", "c"}; !slices.Equal(got, want) {
		t.Errorf("waves %v, want %v", got, want)
	}
}

func TestPodMemberInherits(t *testing.T) {
	infra := &record{Infra: true, Mounts: []Mount{{Type: "volume", Source: "v", Destination: "/v", Anonymous: true}, {Type: "bind", Source: "/a", Destination: "/own"}}}
	infra.Options.SecurityOpt = []string{"no-new-privileges"}
	o := CreateOptions{Mounts: []Mount{{Type: "bind", Source: "/b", Destination: "/own"}}}
	inherit(&o, infra)
	if len(o.Mounts) != 2 || o.Mounts[0].Source != "/b" || o.Mounts[1].Source != "v" || o.Mounts[1].Anonymous {
		t.Errorf("mounts %+v", o.Mounts)
	}
	if !slices.Contains(o.SecurityOpt, "no-new-privileges") {
		t.Error("the security options of the pod are not the member's")
	}
}
