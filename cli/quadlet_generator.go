package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hull/engine"
	"hull/quadlet"
)

// isGenerator says whether the program was called as a systemd generator.
func isGenerator(args []string) bool {
	if len(args) == 0 {
		return false
	}
	switch filepath.Base(args[0]) {
	case "quadlet", "hull-system-generator", "hull-user-generator", "podman-system-generator", "podman-user-generator":
		return true
	}
	return false
}

// generator is a systemd generator: quadlet's command line. It opens no store,
// for it runs before file systems are mounted.
func (s *session) generator(name string) int {
	g := quadlet.Generator{Name: name, Stdout: s.stdout}
	g.User = strings.Contains(filepath.Base(name), "user")
	kernelLog := true
	var dirs []string
	for _, a := range s.args {
		flag, value, has := strings.Cut(a, "=")
		on := !has || value == "true" || value == "1"
		switch strings.TrimLeft(flag, "-") {
		case "dryrun", "dry-run":
			g.DryRun = on
		case "user":
			g.User = on
		case "no-kmsg-log":
			kernelLog = !on
		case "v":
			g.Verbose = on
		case "version":
			fmt.Fprintln(s.stdout, engine.Version())
			return 0
		default:
			if strings.HasPrefix(a, "-") {
				fmt.Fprintf(s.stderr, "Error: %s has no flag %s: it takes -dryrun -no-kmsg-log -user -v -version and directories\n", filepath.Base(name), a)
				return 2
			}
			dirs = append(dirs, a)
		}
	}
	log := s.generatorLog(kernelLog && !g.DryRun)
	g.Log = log
	if other := otherGenerator(filepath.Base(name)); other != "" && !g.DryRun {
		if g.Verbose {
			log(other + " makes the services")
		}
		return 0
	}
	if err := runGenerator(&g, dirs); err != nil {
		for _, l := range strings.Split(err.Error(), "\n") {
			log(l)
		}
		return 1
	}
	return 0
}

// otherGenerator is podman's generator of the same kind, if systemd runs it:
// two that make the same services would write over each other's. A link of
// that name to hull, in a directory that comes earlier, takes its place.
func otherGenerator(name string) string {
	kind, ok := strings.CutSuffix(strings.TrimPrefix(name, "hull-"), "-generator")
	if !ok || !strings.HasPrefix(name, "hull-") {
		return ""
	}
	for _, dir := range []string{"/run/systemd", "/etc/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"} {
		path := filepath.Join(dir, kind+"-generators", "podman-"+kind+"-generator")
		if real, err := filepath.EvalSymlinks(path); err == nil {
			if real == os.DevNull {
				return ""
			}
			return path
		}
	}
	return ""
}

func runGenerator(g *quadlet.Generator, dirs []string) error {
	if len(dirs) == 0 && !g.DryRun {
		return errors.New("write services: the directory to write to is missing")
	}
	if len(dirs) > 0 {
		g.Out = dirs[0]
	}
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return fmt.Errorf("find the own executable: %w", err)
	}
	g.Program, g.Search = self, quadlet.SearchFor(g.User)
	return g.Run()
}

// generatorLog says where lines go: systemd gives a generator no journal, only
// the kernel's log gets there.
func (s *session) generatorLog(kernel bool) func(string) {
	out := s.stderr
	prefix := fmt.Sprintf("quadlet-generator[%d]: ", os.Getpid())
	return func(text string) {
		line := prefix + text + "\n"
		if kernel {
			if f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
				_, err = f.WriteString(line)
				f.Close()
				if err == nil {
					return
				}
			}
		}
		fmt.Fprint(out, line)
	}
}
