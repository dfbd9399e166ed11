package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// hinted is an error with a cure.
type hinted struct{}

func (hinted) Error() string { return "open store: it is locked" }
func (hinted) Hint() string  { return "wait for the other command" }

// tree is a small program; said collects what its commands were given.
func tree(said *[]string) (t *Tree, stdout, stderr *bytes.Buffer) {
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	var root string
	run := func() *Command {
		var detach bool
		var name string
		return &Command{Usage: "[options] IMAGE", Args: AtLeast(1), ArgsEndFlags: true,
			Flags: func(f *Flags) {
				f.BoolVarP(&detach, "detach", "d", false, "In the background")
				f.StringVar(&name, "name", "", "Assign a name")
			},
			Run: func(_ context.Context, args []string) error {
				*said = append(*said, fmt.Sprint("run ", root, " ", detach, " ", name, " ", strings.Join(args, "|")))
				return nil
			}}
	}
	fail := func(err error) func() *Command {
		return func() *Command { return &Command{Run: func(context.Context, []string) error { return err }} }
	}
	return &Tree{
		Program: "hull", Long: "Run containers",
		Globals: func(f *Flags) {
			f.StringVar(&root, "root", "", "Where the store is")
			f.Bool("version", false, "Show the version")
		},
		Nodes: []Node{
			{Path: "run", Short: "Run a command in a new container", Build: run},
			{Path: "image", Short: "Manage images"},
			{Path: "image ls", Short: "List images", Build: fail(nil)},
			{Path: "pull", Short: "Pull an image", Elsewhere: true},
			{Path: "locked", Short: "Fail with a hint", Build: fail(fmt.Errorf("list containers: %w", hinted{}))},
			{Path: "seven", Short: "Exit as a container did", Build: fail(&Exit{Code: 7})},
			{Path: "coded", Short: "Fail with a code", Build: fail(WithCode(127, errors.New("no such program")))},
			{Path: "secret", Short: "Not listed", Hidden: true, Build: fail(nil)},
		},
		Handoff: func(_ context.Context, args []string) error {
			*said = append(*said, "handoff "+strings.Join(args, "|"))
			return nil
		},
		Stdout: stdout, Stderr: stderr,
	}, stdout, stderr
}

func TestExecute(t *testing.T) {
	for _, c := range []struct {
		args   string
		code   int
		said   string
		stderr string // a part of it
	}{
		{"--root /x run -d --name a busybox ls -l", 0, "run /x true a busybox|ls|-l", ""},
		{"run --root=/y busybox", 0, "run /y false  busybox", ""},
		{"run", 125, "", "requires at least 1 arg(s), only received 0"},
		{"run --nope x", 125, "", "unknown flag: --nope"},
		{"rnu x", 125, "", "unrecognized command `hull rnu`"},
		{"rnu x", 125, "", "Did you mean this?\n\trun"},
		{"image", 125, "", "missing command 'hull image COMMAND'"},
		{"image lss", 125, "", "unrecognized command `hull image lss`"},
		{"--root /x pull -q busybox", 0, "handoff --root|/x|pull|-q|busybox", ""},
		{"locked", 125, "", "Error: list containers: open store: it is locked\nhint: wait for the other command"},
		{"seven", 7, "", ""},
		{"coded", 127, "", "Error: no such program"},
		{"secret", 0, "", ""},
	} {
		var said []string
		tr, _, stderr := tree(&said)
		code := tr.Execute(context.Background(), strings.Fields(c.args))
		if code != c.code || strings.Join(said, ";") != c.said || !strings.Contains(stderr.String(), c.stderr) || c.stderr == "" && stderr.Len() > 0 {
			t.Errorf("%s: code %d, said %q, stderr %q; want %d, %q, …%q…", c.args, code, said, stderr, c.code, c.said, c.stderr)
		}
	}
}

func TestHelp(t *testing.T) {
	var said []string
	tr, stdout, _ := tree(&said)
	if code := tr.Execute(context.Background(), []string{"--help"}); code != 0 {
		t.Fatalf("--help: code %d", code)
	}
	for _, want := range []string{"run", "Run a command in a new container", "image", "pull", "--root"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("help lacks %q:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout.String(), "secret") {
		t.Error("help lists a hidden command")
	}
	stdout.Reset()
	tr.Execute(context.Background(), []string{"run", "--help"})
	for _, want := range []string{"hull run [options] IMAGE", "-d, --detach", "--name"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("run --help lacks %q:\n%s", want, stdout)
		}
	}
}

// LOG-03: control bytes of names and errors never reach a terminal as they are.
func TestLOG03ErrorsArePrintable(t *testing.T) {
	var b bytes.Buffer
	Report(&b, errors.New("container \x1b]0;owned\x07 not found\x9b31m"))
	if strings.ContainsAny(b.String(), "\x1b\x07\x9b") {
		t.Errorf("Report wrote %q", b.String())
	}
}

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "64m": 64 << 20, "1.5GiB": 3 << 29, "1kb": 1024, "7": 7, "2 T": 2 << 40} {
		if got, err := ParseBytes(in); got != want || err != nil {
			t.Errorf("ParseBytes(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "m", "-1", "1x", "nan", "9999999p", "1.2.3"} {
		if got, err := ParseBytes(in); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", in, got)
		}
	}
}
