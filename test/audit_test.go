package test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// loggedIn runs hull as somebody who logged in as uid: the kernel's audit keeps
// who that was over every fork, set-uid program and namespace. It returns what
// the shell saw as its session, and hull's output.
func (m *machine) loggedIn(uid int, args ...string) (session, out string) {
	m.Helper()
	c := m.loginCommand(uid, args...)
	b, err := c.Output()
	if err != nil {
		m.Fatalf("hull %q: %v %s", args, err, stderr(err))
	}
	session, out, _ = strings.Cut(string(b), "\n")
	return session, strings.TrimSuffix(out, "\n")
}

func stderr(err error) []byte {
	if e, ok := err.(*exec.ExitError); ok {
		return e.Stderr
	}
	return nil
}

// loginCommand sets the login as root, then becomes the machine's user.
func (m *machine) loginCommand(uid int, args ...string) *exec.Cmd {
	hull := m.command(args...)
	script := fmt.Sprintf(`echo %d >/proc/self/loginuid && cat /proc/self/sessionid && echo && exec "$@"`, uid)
	words := []string{"-c", script, "sh"}
	if m.user != nil {
		words = append(words, "setpriv", "--reuid", m.user.Uid, "--regid", m.user.Gid, "--clear-groups", "--")
	}
	c := exec.Command("/bin/sh", append(words, hull.Args...)...)
	c.Env, c.Dir = hull.Env, hull.Dir
	return c
}

func (m *machine) audit(pid int) (login, session string) {
	m.Helper()
	for file, to := range map[string]*string{"loginuid": &login, "sessionid": &session} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			m.Fatal(err)
		}
		*to = strings.TrimSpace(string(b))
	}
	return login, session
}

func (m *machine) pid(name string) int {
	m.Helper()
	n, err := strconv.Atoi(m.ok("inspect", "-f", "{{.State.Pid}}", name))
	if err != nil || n == 0 {
		m.Fatalf("pid of %s: %d, %v", name, n, err)
	}
	return n
}

// descends reports whether pid has ancestor above it, by the kernel's word.
func descends(pid, ancestor int) bool {
	for pid > 1 {
		if pid == ancestor {
			return true
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if pid, err = strconv.Atoi(f[1]); err != nil {
			return false
		}
	}
	return false
}

// Audit knows whose login a container's programs are of.
func TestAudit(t *testing.T) {
	if b, err := os.ReadFile("/proc/self/loginuid"); err != nil || len(b) == 0 {
		t.Skip("the kernel has no audit")
	}
	if os.Geteuid() == 0 {
		if out, err := exec.Command("/bin/sh", "-c", "echo 4242 >/proc/self/loginuid").CombinedOutput(); err != nil {
			t.Skipf("the login cannot be set: %s", out)
		}
	}
	for _, as := range []string{"", testUser} {
		name := as
		if as == "" {
			name = "root"
		}
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, as)
			// Inside it is shown by the container's ids: a user's own is 0 there.
			login, inside := 4242, "4242"
			if m.user != nil {
				login, inside = m.id(), "0"
			}
			_, out := m.loggedIn(login, "run", "--rm", "--network", "none", "fx:1", "cat", "/proc/self/loginuid")
			if strings.TrimSpace(out) != inside {
				t.Errorf("login of a container in the foreground is %q, want %s", out, inside)
			}

			foreground := m.loginCommand(4243, "run", "--rm", "--name", "front", "--network", "none", "fx:1", "sleep", "1000")
			if err := foreground.Start(); err != nil {
				t.Fatal(err)
			}
			m.eventually("it runs", func() bool { return m.run("inspect", "-f", "{{.State.Status}}", "front").out == "running\n" })
			pid := m.pid("front")
			if !descends(pid, foreground.Process.Pid) {
				t.Errorf("process %d does not descend from its command, %d", pid, foreground.Process.Pid)
			}
			if login, _ := m.audit(pid); login != "4243" {
				t.Errorf("login of a container in the foreground is %s, want 4243", login)
			}
			m.ok("kill", "front")
			foreground.Wait()

			session, id := m.loggedIn(4244, "run", "-d", "--network", "none", "fx:1", "sleep", "1000")
			check := func(what string, pid int, wantLogin, wantSession string) {
				t.Helper()
				if login, s := m.audit(pid); login != wantLogin || s != wantSession {
					t.Errorf("%s has login %s, session %s; want %s, %s", what, login, s, wantLogin, wantSession)
				}
			}
			check("a detached container", m.pid(id), "4244", session)

			// Who executes something, or starts it again, is who did it.
			_, out = m.loggedIn(login, "exec", id, "cat", "/proc/self/loginuid")
			if strings.TrimSpace(out) != inside {
				t.Errorf("login of an exec is %q, want %s", out, inside)
			}
			m.ok("stop", "-t", "0", id)
			session, _ = m.loggedIn(4246, "start", id)
			check("a started container", m.pid(id), "4246", session)
			m.ok("rm", "-f", "-t", "0", id)
		})
	}
}
