package cli

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"hull/command"
	"hull/oci"
	"hull/ociruntime"
)

// The runtime's command line, as root: each script is one container's life or more.
func TestRuntimeScripts(t *testing.T) {
	const busybox = "/bin/busybox"
	if _, err := os.Stat(busybox); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and Debian's busybox-static")
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/runtime",
		Setup: func(e *testscript.Env) error {
			bin := filepath.Join(e.WorkDir, "rootfs/bin")
			for _, d := range []string{bin, e.WorkDir + "/rootfs/tmp", e.WorkDir + "/rootfs/proc"} {
				if err := os.MkdirAll(d, 0o755); err != nil {
					return err
				}
			}
			data, err := os.ReadFile(busybox)
			if err != nil {
				return err
			}
			for _, name := range []string{"sh", "cat", "sleep", "true", "id", "env", "pwd", "grep", "tty", "ls"} {
				if err := os.Symlink("busybox", filepath.Join(bin, name)); err != nil {
					return err
				}
			}
			// Only commands of ours that a script forgot are ended at its end.
			e.Defer(func() { endContainers(t, e.WorkDir+"/st") })
			return os.WriteFile(filepath.Join(bin, "busybox"), data, 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"bundle": writeBundle, "console": listenConsole},
	})
}

func endContainers(t *testing.T, state string) {
	r := &ociruntime.Runtime{Root: state}
	all, _ := r.List()
	for _, c := range all {
		if err := r.Delete(t.Context(), c.ID, true); err != nil {
			t.Log(err)
		}
	}
}

// writeBundle is the script's command "bundle [-t] DIR ARG…": a bundle whose program is ARG….
func writeBundle(ts *testscript.TestScript, _ bool, args []string) {
	s := ociruntime.ExampleSpec(false)
	s.Process.Terminal = args[0] == "-t"
	if s.Process.Terminal {
		args = args[1:]
	}
	s.Root, s.Process.Args = &oci.Root{Path: ts.MkAbs("rootfs")}, args[1:]
	s.Process.Env = []string{"PATH=/bin"}
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m oci.Mount) bool { return strings.HasPrefix(m.Destination, "/sys") })
	s.Linux.CgroupsPath = "/hull-script-test" + strings.ReplaceAll(ts.MkAbs(args[0]), "/", "-") // no other run's
	data, err := json.Marshal(s)
	ts.Check(err)
	ts.Check(os.MkdirAll(ts.MkAbs(args[0]), 0o755))
	ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[0]), "config.json"), data, 0o600))
}

// listenConsole is the script's command "console SOCKET": whoever sends a terminal there is served.
func listenConsole(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: ts.MkAbs(args[0])})
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	go func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			oob := make([]byte, unix.CmsgSpace(4))
			_, n, _, _, _ := conn.ReadMsgUnix(make([]byte, 100), oob)
			conn.Close()
			if m, err := unix.ParseSocketControlMessage(oob[:n]); err == nil && len(m) == 1 {
				if fds, err := unix.ParseUnixRights(&m[0]); err == nil {
					f := os.NewFile(uintptr(fds[0]), "terminal")
					ts.Defer(func() { f.Close() })
				}
			}
		}
	}()
}

// untried are options that this machine, or any, lets only fail or only succeed.
var untried = map[string]string{
	"success: global systemd-cgroup":  "needs systemd",
	"success: update l3-cache-schema": "needs resctrl",
	"success: update mem-bw-schema":   "needs resctrl",
	"success: exec process-label":     "needs SELinux",
	"success: exec apparmor":          "needs AppArmor",
	"failure: update kernel-memory":   "is ignored, whatever it says",
	"failure: exec cwd":               "is made by nobody and is an error only when the program starts there",
}

// Each command and each option of the runtime occurs in a line of a script that succeeds and
// in one that fails.
func TestEveryRuntimeOptionIsTried(t *testing.T) {
	tried := make(map[string]bool)
	files, _ := filepath.Glob("testdata/runtime/*.txtar")
	o := &ociSession{session: &session{}}
	nodes := map[string]*pflag.FlagSet{"global": flagsOf(o.declare)}
	for _, n := range o.rows() {
		if n.Path == "checkpoint" || n.Path == "restore" {
			continue // need CRIU
		}
		if c := n.Build(); !c.Raw {
			nodes[n.Path] = flagsOf(c.Flags)
		}
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if at := strings.Index(line, "hull-runtime "); at >= 0 && !strings.HasPrefix(line, "#") {
				outcome := "success: "
				if strings.HasPrefix(line, "!") {
					outcome = "failure: "
				}
				mark(tried, outcome, strings.Fields(line[at:])[1:], nodes)
			}
		}
	}
	for name, flags := range nodes {
		for _, outcome := range []string{"success: ", "failure: "} {
			if name != "global" && !tried[outcome+name] {
				t.Errorf("no script has %s%s", outcome, name)
			}
			flags.VisitAll(func(f *pflag.Flag) {
				key := outcome + name + " " + f.Name
				if !tried[key] && untried[key] == "" && !f.Hidden {
					t.Errorf("no script has %s", key)
				}
			})
		}
	}
}

func flagsOf(declare func(*command.Flags)) *pflag.FlagSet {
	f := &command.Flags{FlagSet: pflag.NewFlagSet("", pflag.ContinueOnError)}
	if declare != nil {
		declare(f)
	}
	return f.FlagSet
}

var option = regexp.MustCompile(`^(--[a-z0-9-]+|-[a-z])(=.*)?$`)

// mark notes the command and the options of one line.
func mark(tried map[string]bool, outcome string, words []string, nodes map[string]*pflag.FlagSet) {
	in := "global"
	for _, w := range words {
		w = strings.Trim(w, `"'`)
		if m := option.FindStringSubmatch(w); m != nil {
			name := strings.TrimLeft(m[1], "-")
			if len(m[1]) == 2 {
				if f := nodes[in].ShorthandLookup(name); f != nil {
					name = f.Name
				}
			}
			tried[outcome+in+" "+name] = true
			continue
		}
		if _, ok := nodes[w]; ok && in == "global" && w != "global" {
			in = w
			tried[outcome+in] = true
		}
	}
}
