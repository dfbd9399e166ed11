package test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// A crashCase is a command that is killed or made to fail at every call.
type crashCase struct {
	name string
	// before are commands that make what it works on.
	before func(l *lab) [][]string
	argv   func(l *lab) []string
	// done says whether its effect is there as a whole.
	done func(l *lab) error
	// kept, if set, says what is left of that when the command had ended well,
	// and what goes on after it was killed then.
	kept func(l *lab) error
	// holds says what must be so as soon as the command has ended, however.
	holds func(l *lab) error
	// again are commands that take a half back before the command is tried
	// again, as a user would; they must succeed.
	again [][]string
	// after are commands that remove what it made; they may fail.
	after [][]string
	// wait: the processes that it leaves end by themselves, and count.
	wait bool
}

func line(text string) func(*lab) []string {
	return func(l *lab) []string {
		return strings.Fields(strings.NewReplacer("IN/", l.in("")+"/", "OUT/", l.out("")+"/", "REG/", labRegistry+"/").Replace(text))
	}
}

func lines(texts ...string) func(*lab) [][]string {
	return func(l *lab) [][]string {
		var out [][]string
		for _, t := range texts {
			out = append(out, line(t)(l))
		}
		return out
	}
}

func fields(texts ...string) [][]string {
	var out [][]string
	for _, t := range texts {
		out = append(out, strings.Fields(t))
	}
	return out
}

func exists(kind, name string) func(*lab) error {
	return func(l *lab) error {
		if !l.has(kind, name) {
			return fmt.Errorf("no %s %s", kind, name)
		}
		return nil
	}
}

func gone(kind, name string) func(*lab) error {
	return func(l *lab) error {
		if l.has(kind, name) {
			return fmt.Errorf("%s %s is still there", kind, name)
		}
		return nil
	}
}

// is wants a container's state: its status and exit code.
func is(name, want string) func(*lab) error {
	return func(l *lab) error {
		if s := l.state(name); s != want {
			return fmt.Errorf("container %s is %q, not %q", name, s, want)
		}
		return nil
	}
}

func never(*lab) error { return errors.New("a command of which nothing stays") }

func prints(want, args string) func(*lab) error {
	return func(l *lab) error {
		if r := l.run(strings.Fields(args)...); r.code != 0 || !strings.Contains(r.out, want) {
			return fmt.Errorf("hull %s: %s, not %q", args, r, want)
		}
		return nil
	}
}

const (
	runVictim  = "run -d --name victim localhost/keep:1 sleep 100000"
	makeVictim = "create --name victim localhost/keep:1 sleep 100000"
	dropVictim = "rm -f -t 0 -v victim"
)

// crashCases is the table of commands; the order is that of a store's life.
func crashCases() []crashCase {
	return append(append(imageCases(), containerCases()...), objectCases()...)
}

func imageCases() []crashCase {
	victim := exists("image", "localhost/victim:1")
	dropImage := fields("rmi -f localhost/victim:1", "image prune -f")
	importVictim := lines("import -q IN/victim.tar localhost/victim:1")
	saved := func(l *lab) error {
		f, err := os.Open(l.out("saved.tar"))
		if err != nil {
			return err
		}
		defer f.Close()
		files := map[string]bool{}
		for t := tar.NewReader(f); ; {
			h, err := t.Next()
			if err == io.EOF && !files["manifest.json"] {
				return errors.New("the archive has no manifest.json")
			}
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			files[h.Name] = true
		}
	}
	return []crashCase{
		{name: "pull", argv: line("pull -q --tls-verify=false REG/victim:1"), done: exists("image", labRegistry+"/victim:1"),
			after: fields("rmi -f "+labRegistry+"/victim:1", "image prune -f")},
		{name: "push", argv: line("push -q --tls-verify=false localhost/keep:1 REG/pushed:1"), done: func(l *lab) error {
			r, err := http.Get("http://" + labRegistry + "/v2/pushed/manifests/1")
			if err == nil {
				if r.Body.Close(); r.StatusCode != http.StatusOK {
					err = errors.New(r.Status)
				}
			}
			return err
		}},
		{name: "load", argv: line("load -q -i IN/image.tar"), done: victim, after: dropImage},
		{name: "save", argv: line("save -q -o OUT/saved.tar localhost/keep:1"), done: saved},
		{name: "import", argv: line("import -q IN/victim.tar localhost/victim:1"), done: victim, after: dropImage},
		{name: "tag", argv: line("tag localhost/keep:1 localhost/tagged:1"), done: exists("image", "localhost/tagged:1"), after: fields("untag localhost/keep:1 localhost/tagged:1")},
		{name: "untag", before: lines("tag localhost/keep:1 localhost/tagged:1"), argv: line("untag localhost/keep:1 localhost/tagged:1"), done: gone("image", "localhost/tagged:1")},
		{name: "rmi", before: importVictim, argv: line("rmi localhost/victim:1"), done: gone("image", "localhost/victim:1"), after: dropImage},
		{name: "image prune", before: lines("import -q IN/victim.tar localhost/victim:1", "untag localhost/victim:1"), argv: line("image prune -f"), done: func(l *lab) error {
			if r := l.run("images", "-q", "--filter", "dangling=true"); r.code != 0 || r.out != "" {
				return fmt.Errorf("nameless images are left: %s", r)
			}
			return nil
		}, after: dropImage},
		{name: "commit", before: lines("run --name victim localhost/keep:1 sh -c echo>/written"), argv: line("commit -q victim localhost/victim:1"), done: victim,
			after: append(fields(dropVictim), dropImage...)},
		{name: "build", argv: line("build -q --network none -t localhost/victim:1 IN/ctx"), done: prints("run", "run --rm --network none localhost/victim:1 cat /ran"),
			after: fields("rmi -f localhost/victim:1", "image prune -f --build-cache", "image prune -f")},
	}
}

func containerCases() []crashCase {
	running := is("victim", "running 0")
	drop := fields(dropVictim)
	return []crashCase{
		{name: "create", argv: line(makeVictim), done: is("victim", "created 0"), after: drop},
		{name: "create --rm -v", argv: line("create --rm -v victim:/v --name victim localhost/keep:1 true"), done: is("victim", "created 0"), after: fields(dropVictim, "volume rm -f victim")},
		{name: "run -d", argv: line(runVictim), done: running, again: drop, after: drop},
		{name: "run -d true", argv: line("run -d --name victim localhost/keep:1 true"), done: is("victim", "exited 0"), again: drop, after: drop, wait: true, kept: func(l *lab) error {
			// How a container ended is known to its monitor alone until that has written it.
			if is("victim", "exited 255")(l) == nil {
				return nil
			}
			return is("victim", "exited 0")(l)
		}},
		{name: "run --rm", argv: line("run --rm --name victim localhost/keep:1 echo x"), done: never, again: drop, after: drop, wait: true},
		{name: "run -p", argv: line("run -d --name victim --network keepn -p 127.0.0.1:8080:80 -v victim:/v localhost/keep:1 sleep 100000"), done: running, again: drop, after: fields(dropVictim, "volume rm -f victim")},
		{name: "start", before: lines(makeVictim), argv: line("start victim"), done: running, after: drop},
		{name: "stop", before: lines(runVictim), argv: line("stop -t 0 victim"), done: is("victim", "exited 137"), after: drop},
		{name: "kill", before: lines(runVictim), argv: line("kill victim"), done: func(l *lab) error {
			for range 100 {
				if is("victim", "exited 137")(l) == nil {
					return nil
				}
			}
			return is("victim", "exited 137")(l)
		}, after: drop},
		{name: "restart", before: lines(runVictim), argv: line("restart -t 0 victim"), done: running, after: drop},
		{name: "pause", before: lines(runVictim), argv: line("pause victim"), done: is("victim", "paused 0"), after: drop},
		{name: "unpause", before: lines(runVictim, "pause victim"), argv: line("unpause victim"), done: running, after: drop},
		{name: "rm", before: lines(makeVictim), argv: line("rm victim"), done: gone("container", "victim"), after: drop},
		{name: "rm -f", before: lines("run -d --name victim --network keepn -p 127.0.0.1:8080:80 -v /v localhost/keep:1 sleep 100000"), argv: line("rm -f -v -t 0 victim"), done: gone("container", "victim"), after: fields(dropVictim)},
		{name: "rename", before: lines(makeVictim), argv: line("rename victim victim2"), done: exists("container", "victim2"), after: fields(dropVictim, "rm -f victim2")},
		{name: "update", before: lines(makeVictim), argv: line("update --memory 64m victim"), done: prints("67108864", "inspect -f {{.HostConfig.Memory}} victim"), after: drop},
		{name: "exec", before: lines(runVictim), argv: line("exec victim echo x"), done: never, after: drop},
		{name: "cp", before: lines(makeVictim), argv: line("cp IN/victim.tar victim:/copied"), done: prints("copied", "diff victim"), after: drop},
		{name: "export", argv: line("export -o OUT/exported.tar keepc"), done: func(l *lab) error {
			_, err := os.Stat(l.out("exported.tar"))
			return err
		}},
		{name: "container prune", before: lines("create --label victim=1 --name victim localhost/keep:1 true"), argv: line("container prune -f --filter label=victim=1"), done: gone("container", "victim"), after: drop},
	}
}

func objectCases() []crashCase {
	return []crashCase{
		{name: "volume create", argv: line("volume create victim"), done: exists("volume", "victim"), after: fields("volume rm -f victim")},
		{name: "volume import", before: lines("volume create victim"), argv: line("volume import victim IN/victim.tar"), done: func(l *lab) error {
			_, err := os.Stat(l.dir + "/root/volumes/victim/_data/etc/a")
			return err
		}, after: fields("volume rm -f victim")},
		{name: "volume rm", before: lines("volume create victim", "volume import victim IN/victim.tar"), argv: line("volume rm victim"), done: gone("volume", "victim"), after: fields("volume rm -f victim")},
		{name: "volume prune", before: lines("volume create --label victim=1 victim"), argv: line("volume prune -a -f --filter label=victim=1"), done: gone("volume", "victim"), after: fields("volume rm -f victim")},
		{name: "network create", argv: line("network create victim"), done: exists("network", "victim"), after: fields("network rm -f victim")},
		{name: "network rm", before: lines("network create victim", "run --rm --network victim localhost/keep:1 true"), argv: line("network rm victim"), done: gone("network", "victim"), after: fields("network rm -f victim")},
		{name: "network connect", before: lines(runVictim), argv: line("network connect keepn victim"), done: prints("keepn", "inspect -f {{.NetworkSettings.Networks}} victim"), after: fields(dropVictim)},
		{name: "network disconnect", before: lines("run -d --name victim --network hull --network keepn localhost/keep:1 sleep 100000"), argv: line("network disconnect keepn victim"),
			done: prints("map[hull:", "inspect -f {{.NetworkSettings.Networks}} victim"), after: fields(dropVictim)},
		{name: "pod create", argv: line("pod create --name victim"), done: exists("pod", "victim"), after: fields("pod rm -f victim")},
		{name: "pod start", before: lines("pod create --name victim"), argv: line("pod start victim"), done: prints("Running", "pod inspect -f {{.State}} victim"), after: fields("pod rm -f -t 0 victim")},
		{name: "run --pod", before: lines("pod create --name victim", "pod start victim"), argv: line("run -d --pod victim --name member localhost/keep:1 sleep 100000"), done: is("member", "running 0"),
			again: fields("rm -f -t 0 member"), after: fields("pod rm -f -t 0 victim")},
		{name: "pod rm", before: lines("pod create --name victim", "run -d --pod victim --name member localhost/keep:1 sleep 100000"), argv: line("pod rm -f -t 0 victim"), done: gone("pod", "victim"),
			after: fields("pod rm -f -t 0 victim")},
		{name: "secret create", argv: line("secret create victim IN/secret"), done: exists("secret", "victim"), after: fields("secret rm victim")},
		{name: "secret create --replace", before: lines("secret create victim IN/secret"), argv: line("secret create --replace victim IN/other"), holds: func(l *lab) error {
			r := l.run("secret", "inspect", "--showsecret", "-f", "{{.SecretData}}", "victim")
			if text := strings.TrimSpace(r.out); r.code != 0 || text != "hush" && text != "other" {
				return fmt.Errorf("the secret is neither the old nor the new: %s", r)
			}
			return nil
		}, done: prints("other", "secret inspect --showsecret victim"), after: fields("secret rm victim")},
		{name: "secret rm", before: lines("secret create victim IN/secret"), argv: line("secret rm victim"), done: gone("secret", "victim"), after: fields("secret rm victim")},
		{name: "system prune", before: lines("create --label victim=1 --name victim localhost/keep:1 true", "volume create --label victim=1 victim", "network create --label victim=1 victim"),
			argv: line("system prune -f --volumes --filter label=victim=1"), done: gone("container", "victim"), after: fields(dropVictim, "volume rm -f victim", "network rm -f victim")},
	}
}
