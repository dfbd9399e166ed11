package cli

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the scripts run this test's own binary as hull.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"hull": func() {
			if err := standIn(); err != nil {
				panic(err)
			}
			args := append([]string{"hull", "--root", os.Getenv("STORE"), "--runroot", os.Getenv("RUN_DIR")}, os.Args[1:]...)
			os.Exit(Run(context.Background(), args, os.Stdin, os.Stdout, os.Stderr))
		},
		"hull-runtime": func() {
			os.Exit(Run(context.Background(), append([]string{"hull-runtime"}, os.Args[1:]...), os.Stdin, os.Stdout, os.Stderr))
		},
		"podman-system-generator": func() { os.Exit(Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)) },
		"hull-user-generator":     func() { os.Exit(Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// standIn puts a file where hull-monitor belongs: no script starts it.
func standIn() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(self), "libexec", "hull")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "hull-monitor"), nil, 0o755)
}

// The scripts start no container and need no root.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			if os.Getuid() != 0 {
				t.Skip("a user's commands begin anew in a namespace that holds no test")
			}
			e.Setenv("STORE", filepath.Join(e.WorkDir, "store"))
			e.Setenv("RUN_DIR", filepath.Join(e.WorkDir, "run"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code},
	})
}

// code CODE COMMAND... runs hull and compares its exit code.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: code CODE ARG...")
	}
	err := ts.Exec("sh", append([]string{"-c", `"$@"; test $? -eq ` + args[0], "sh", "hull"}, args[1:]...)...)
	if (err == nil) == neg {
		ts.Fatalf("hull %v: exit code is not %s", args[1:], args[0])
	}
}
