package monitor

import (
	"bytes"
	"reflect"
	"testing"
	"time"
)

func TestConfigRoundTrip(t *testing.T) {
	in := &Config{ID: "a\nb", RunDir: "/run/x y", ExitDir: "/var/\xff", LogDriver: LogK8sFile, LogPath: "/l", LogMaxSize: 1 << 40, LogMaxFiles: 3,
		Terminal: true, OpenStdin: true, StdinOnce: true, Wait: true, Attached: true, AttachFlags: FlagOutput | FlagCleaner, PlanFiles: 4,
		OOMScoreAdj: -999, Cleanup: []string{"/bin/hull", "", "a \"b\""}, Env: []string{"A=1", "B=\x01"}}
	out, err := DecodeConfig(in.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(in, out) {
		t.Errorf("DecodeConfig(Encode(%+v)) = %+v", in, out)
	}
}

func FuzzDecodeConfig(f *testing.F) {
	f.Add((&Config{ID: "x", Cleanup: []string{"a"}}).Encode())
	f.Add([]byte("hull-monitor 1\nid \"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := DecodeConfig(data)
		if err != nil {
			return
		}
		again, err := DecodeConfig(c.Encode())
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("DecodeConfig(%q) does not survive a round trip: %v", data, err)
		}
	})
}

func FuzzCutFrame(f *testing.F) {
	f.Add(AppendFrame(AppendFrame(nil, FrameStdin, []byte("hello")), FrameResize, []byte{1, 0, 2, 0}))
	f.Add([]byte{'x', 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		// What was cut is what was there.
		rest, made := data, []byte(nil)
		for {
			kind, p, left, ok, err := cutFrame(rest)
			if !ok || err != nil {
				break
			}
			made, rest = AppendFrame(made, kind, p), left
		}
		if made = append(made, rest...); !bytes.Equal(made, data) {
			t.Fatalf("cut to pieces and put together again: %q, want %q", made, data)
		}
	})
}

func TestLogLines(t *testing.T) {
	now := func() time.Time { return time.Unix(1, 5).UTC() }
	for _, c := range []struct {
		driver, tag, in, want string
		stream                FrameType
	}{
		{LogK8sFile, "", "a\nb", "1970-01-01T00:00:01.000000005Z stdout F a\n1970-01-01T00:00:01.000000005Z stdout P b\n", FrameStdout},
		{LogK8sFile, "tag", "\n", "1970-01-01T00:00:01.000000005Z stderr F tag \n", FrameStderr},
		{LogJSONFile, "", "q\"\\\x01\xffé\n", `{"log":"q\"\\\u0001\u00ffé\n","stream":"stdout","time":"1970-01-01T00:00:01.000000005Z"}` + "\n", FrameStdout},
	} {
		dir := t.TempDir()
		w, err := openLog(&Config{LogDriver: c.driver, LogPath: dir + "/log", LogTag: c.tag})
		if err != nil {
			t.Fatal(err)
		}
		w.now = now
		w.write(c.stream, []byte(c.in))
		if got := readFile(t, dir+"/log"); got != c.want {
			t.Errorf("%s: log of %q = %q, want %q", c.driver, c.in, got, c.want)
		}
	}
}

func TestLogRotation(t *testing.T) {
	dir := t.TempDir()
	w, err := openLog(&Config{LogDriver: LogK8sFile, LogPath: dir + "/log", LogMaxSize: 100, LogMaxFiles: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"one\n", "two\n", "three\n", "four\n", "five\n"} {
		w.write(FrameStdout, []byte(s))
	}
	if got, want := readFile(t, dir+"/log")[31:], "stdout F five\n"; got != want {
		t.Errorf("log = %q, want %q", got, want)
	}
	if got := readFile(t, dir+"/log.1"); !bytes.Contains([]byte(got), []byte("three\n")) || !bytes.Contains([]byte(got), []byte("four\n")) {
		t.Errorf("log.1 = %q, want the two lines before", got)
	}
}

// LOG-02: what somebody planted at the log's name is not written to.
func TestLOG02PlantedLog(t *testing.T) {
	dir := t.TempDir()
	canary := dir + "/canary"
	writeFile(t, canary, "untouched")
	for name, plant := range map[string]func(string) error{
		"symlink":  func(p string) error { return symlink(canary, p) },
		"hardlink": func(p string) error { return link(canary, p) },
		"fifo":     func(p string) error { return mkfifo(p) },
	} {
		path := dir + "/" + name
		if err := plant(path); err != nil {
			t.Fatal(err)
		}
		if _, err := openLog(&Config{LogDriver: LogK8sFile, LogPath: path}); err == nil {
			t.Errorf("openLog on a %s = nil, want an error", name)
		}
	}
	if got := readFile(t, canary); got != "untouched" {
		t.Errorf("canary = %q", got)
	}
}
