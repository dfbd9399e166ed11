package ociruntime

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hull/plan"
)

// names sets host name, domain name and sysctls.
func (c *compiler) names() error {
	if c.spec.Hostname == "" && c.spec.Domainname == "" && len(c.linux.Sysctl) == 0 {
		return nil
	}
	c.b.Phase("names")
	if c.spec.Hostname != "" {
		c.b.Sethostname(c.spec.Hostname)
	}
	if c.spec.Domainname != "" {
		c.b.Setdomainname(c.spec.Domainname)
	}
	keys := make([]string, 0, len(c.linux.Sysctl))
	for k := range c.linux.Sysctl {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		c.b.Subject("set sysctl " + k)
		c.sysctl(sysctlPath(k), c.linux.Sysctl[k])
	}
	c.b.Subject("")
	if c.sysctls != 0 {
		c.b.Close(c.sysctls)
	}
	return nil
}

// openSysctls opens the container's own /proc/sys, if it can be written to. The
// host's has the same files, but also an entry of each network namespace that
// ever asked for one, all in one bucket of the kernel's cache: it gets slower
// with every container.
func (c *compiler) openSysctls() error {
	if len(c.linux.Sysctl) > 0 && c.procfs != 0 && c.settable {
		c.b.Phase("names")
		c.sysctls, _ = c.b.Openat2(c.procfs, "sys", openPath|unix.O_DIRECTORY, beneath)
	}
	return nil
}

func (c *compiler) sysctl(name, value string) {
	if c.sysctls == 0 {
		c.b.WriteFile(plan.CWD, "/proc/sys/"+name, value)
		return
	}
	f, _ := c.b.Openat2(c.sysctls, name, unix.O_WRONLY|unix.O_CLOEXEC, beneath)
	c.b.Write(f, value)
	c.b.Close(f)
}

// sysctlPath turns a name into a path. Whichever of dot and slash comes first
// separates; the other one then is part of a name, such as an interface's.
func sysctlPath(key string) string {
	first := strings.IndexAny(key, "./")
	if first < 0 || key[first] == '/' {
		return key
	}
	return strings.NewReplacer(".", "/", "/", ".").Replace(key)
}

// oomScore is inherited over the fork; a process that hides, in a user
// namespace, could not open the file.
func (c *compiler) oomScore() {
	if adj := c.process.OOMScoreAdj; adj != nil {
		c.b.Phase("oom score")
		f, _ := c.b.Openat(plan.CWD, "/proc/self/oom_score_adj", unix.O_WRONLY|unix.O_CLOEXEC)
		c.b.Write(f, strconv.Itoa(*adj)).Accept(unix.EACCES) // lowering it is the privileged's
		c.b.Close(f)
	}
}

// openLabels opens what is written after the host's /proc is gone. The files
// are those of the process that opens them, so it comes after the fork.
func (c *compiler) openLabels() error {
	p := c.process
	if p.ApparmorProfile != "" && p.ApparmorProfile != "unconfined" {
		if !c.o.Facts.AppArmor {
			return fmt.Errorf("set AppArmor profile %s: AppArmor is not active on this host", p.ApparmorProfile)
		}
		c.openLabel("self/attr/apparmor/exec", "exec "+p.ApparmorProfile)
	}
	if p.SelinuxLabel != "" {
		if !c.o.Facts.SELinux {
			return fmt.Errorf("set SELinux label %s: SELinux is not active on this host", p.SelinuxLabel)
		}
		c.openLabel("self/attr/exec", p.SelinuxLabel)
	}
	return nil
}

func (c *compiler) openLabel(file, text string) {
	c.b.Phase("label")
	c.labels = append(c.labels, label{c.attribute(file), text})
}

// attribute opens a file of the process's own in the host's /proc, and in no
// other file system (CVE-2019-16884).
func (c *compiler) attribute(file string) plan.FD {
	if c.proc == 0 {
		c.proc, _ = c.b.Openat(plan.CWD, "/proc", openPath|unix.O_DIRECTORY)
	}
	f, _ := c.b.Openat2(c.proc, file, unix.O_WRONLY|unix.O_CLOEXEC, beneath)
	return f
}

// rlimitNumbers by the names of the runtime specification.
var rlimitNumbers = map[string]int{
	"RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4, "RLIMIT_RSS": 5,
	"RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9, "RLIMIT_LOCKS": 10,
	"RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13, "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}

// limits sets resource limits and how the process is scheduled.
func (c *compiler) limits() error {
	p := c.process
	c.b.Phase("limits")
	for _, l := range p.Rlimits {
		n, ok := rlimitNumbers[l.Type]
		if !ok {
			return fmt.Errorf("rlimit %q is not known", l.Type)
		}
		soft, hard := l.Soft, l.Hard
		if most, ok := c.o.Facts.HardLimits[n]; ok && hard > most {
			c.warn("%s of %d is more than this process may set: %d", l.Type, hard, most)
			hard = most
			soft = min(soft, hard)
		}
		c.b.Subject("limit " + l.Type)
		c.b.Setrlimit(n, soft, hard)
	}
	c.b.Subject("")
	if d := c.linux.Personality; d != nil {
		persona := uint64(0)
		switch d.Domain {
		case "LINUX":
		case "LINUX32":
			persona = 8
		default:
			return fmt.Errorf("personality %q is not known", d.Domain)
		}
		if len(d.Flags) > 0 {
			return errors.New("personality: flags are not supported by the specification's runtimes")
		}
		c.b.Personality(persona)
	}
	if err := c.ioPriority(); err != nil {
		return err
	}
	if err := c.scheduler(); err != nil {
		return err
	}
	return c.memoryPolicy()
}
