package passwd

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

var files = Files{
	Passwd: []byte("root:x:0:0:root:/root:/bin/sh\n# no\nbin:x:1:1::/bin:\n1000:x:0:0::/root:/bin/sh\n4294967296:x:0:0::/:/\n" +
		"00:x:0:7::/:/\n-1:x:0:0::/:/\nworker:x:500:501:W:/home/w:/bin/ash\nbad:x:x:1::/:/\nshort\n"),
	Group: []byte("root:x:0:\nbin:x:1:bin,daemon\nstaff:x:50:worker,bin\nw:x:501:\nwheel:x:10:worker\n77:x:0:worker2\n"),
}

// USR-01, USR-02, USR-03.
func TestLookup(t *testing.T) {
	for _, c := range []struct {
		spec     string
		more     []string
		uid, gid uint32
		groups   []uint32
		home     string
		fails    bool
	}{
		{spec: "", groups: []uint32{0}, home: "/root"},
		{spec: "0", groups: []uint32{0}, home: "/root"},
		{spec: "1", uid: 1, gid: 1, groups: []uint32{1, 50}, home: "/bin"},
		{spec: "01", uid: 1, gid: 1, groups: []uint32{1, 50}, home: "/bin"},
		{spec: "1:", uid: 1, gid: 1, groups: []uint32{1, 50}, home: "/bin"},
		{spec: ":1", gid: 1, groups: []uint32{1}, home: "/root"},
		{spec: "1:1", uid: 1, gid: 1, groups: []uint32{1}, home: "/bin"},
		{spec: "worker", uid: 500, gid: 501, groups: []uint32{501, 10, 50}, home: "/home/w"},
		{spec: "worker:staff", uid: 500, gid: 50, groups: []uint32{50}, home: "/home/w"},
		{spec: "worker:77", uid: 500, gid: 77, groups: []uint32{77}, home: "/home/w"},
		{spec: "1000", uid: 1000, groups: []uint32{0}},
		{spec: "00", groups: []uint32{0}, home: "/root"},
		{spec: "5", more: []string{"77", "staff", "77"}, uid: 5, groups: []uint32{0, 50, 77}},
		{spec: "4294967294", uid: 4294967294, groups: []uint32{0}},
		{spec: "4294967295", fails: true},
		{spec: "4294967296", fails: true},
		{spec: "-1", fails: true},
		{spec: "1:-1", fails: true},
		{spec: "nobody", fails: true},
		{spec: "0:nogroup", fails: true},
		{spec: "a:b:c", fails: true},
		{spec: "0", more: []string{"nogroup"}, fails: true},
	} {
		u, err := Lookup(c.spec, c.more, files)
		if (err != nil) != c.fails {
			t.Errorf("Lookup(%q, %q) error = %v, want failure %v", c.spec, c.more, err, c.fails)
			continue
		}
		if err == nil && (u.UID != c.uid || u.GID != c.gid || !slices.Equal(u.Groups, c.groups) || u.Home != c.home) {
			t.Errorf("Lookup(%q, %q) = %+v, want %+v", c.spec, c.more, u, c)
		}
	}
}

// USR-04: a file without end or a line without end.
func TestUSR04Bounded(t *testing.T) {
	big := bytes.Repeat([]byte("a"), MaxFile+1<<20)
	big = append(big, "\nlate:x:9:9::/:/\n"...)
	if _, err := Lookup("late", nil, Files{Passwd: big}); err == nil {
		t.Errorf("Lookup found an entry behind %d bytes", MaxFile)
	}
	long := "x:" + strings.Repeat("y", maxLine) + ":1:1::/:/\nok:x:3:4::/h:/\n"
	if u, err := Lookup("ok", nil, Files{Passwd: []byte(long)}); err != nil || u.UID != 3 {
		t.Errorf("Lookup after a long line = %+v, %v, want uid 3", u, err)
	}
}

// USR-05: what is written is read back as what was meant.
func TestUSR05Entry(t *testing.T) {
	for _, u := range []User{
		{UID: 4242, GID: 7, Name: "me", Home: "/h", Shell: "/bin/sh"},
		{UID: 4242, Home: "/"},
	} {
		line, err := Entry(u)
		if err != nil {
			t.Fatalf("Entry(%+v) error = %v", u, err)
		}
		got, err := Lookup("4242", nil, Files{Passwd: []byte(line)})
		if err != nil || got.UID != u.UID || got.GID != u.GID || got.Home != u.Home || got.Shell != u.Shell {
			t.Errorf("Lookup(Entry(%+v)) = %+v, %v", u, got, err)
		}
	}
	for _, u := range []User{{Home: "/:x"}, {Home: "/a\nroot2:x:0:0::/:/bin/sh"}, {Name: "a\rb"}, {Shell: "a\x00"}} {
		if line, err := Entry(u); err == nil {
			t.Errorf("Entry(%+v) = %q, want an error", u, line)
		}
	}
	if err := CheckLine("a:x:0:0\nb"); err == nil {
		t.Errorf("CheckLine accepted two lines")
	}
}

func FuzzLookup(f *testing.F) {
	f.Add("worker:staff", files.Passwd, files.Group)
	f.Add(":1", []byte("a:b:c:d"), []byte(":::"))
	f.Fuzz(func(t *testing.T, spec string, p, g []byte) {
		u, err := Lookup(spec, nil, Files{p, g})
		if err != nil {
			return
		}
		if len(u.Groups) == 0 || u.Groups[0] != u.GID {
			t.Errorf("Lookup(%q) = %+v: primary group is not the first", spec, u)
		}
		if n, ok, _ := number(strings.SplitN(spec, ":", 2)[0]); ok && u.UID != n {
			t.Errorf("Lookup(%q) = uid %d, want the number", spec, u.UID)
		}
	})
}
