package engine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// defaultAppArmor is the name of the profile of containers without one of
// their own.
const defaultAppArmor = "hull-default"

// defaultAppArmorText forbids what no container needs of /proc, /sys and
// mount(2): all of it is masked, read-only or filtered already, so that this is
// a second wall. Signals and traces stay among containers and from outside.
const defaultAppArmorText = `#include <tunables/global>

profile ` + defaultAppArmor + ` flags=(attach_disconnected,mediate_deleted) {
  file,
  network,
  capability,
  umount,

  signal (receive) peer=unconfined,
  signal (send, receive) peer=` + defaultAppArmor + `,
  ptrace (trace, read, tracedby, readby) peer=` + defaultAppArmor + `,
  deny mount,

  deny /proc/{kcore,sysrq-trigger} rwklx,
  deny /proc/{acpi,bus,fs,irq,scsi}/** wkl,
  deny /proc/sys/{debug,dev,vm}/** wkl,
  deny /proc/sys/fs/binfmt_misc/** wkl,
  deny /proc/sys/kernel/{core_pattern,hotplug,modprobe,panic*,poweroff_cmd,printk*,sysrq,yama/**} wkl,

  deny /sys/{[^f],f[^s],fs/[^c],fs/c[^g]}** wkl,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
}
`

// appArmorProfile is the profile of a container's processes, "" for none.
func (e *Engine) appArmorProfile(o *CreateOptions) string {
	for _, opt := range o.SecurityOpt {
		if key, value, _ := cutSecurityOpt(opt); key == "apparmor" {
			if value == "unconfined" {
				return ""
			}
			return value
		}
	}
	if o.Privileged || e.o.Rootless || !appArmorEnabled() {
		return ""
	}
	return defaultAppArmor
}

// needAppArmor sees to it that the default profile is loaded, for a process
// that is to have it. Where it cannot be, the process goes without, unless the
// user has asked for it by name.
func (e *Engine) needAppArmor(o *CreateOptions, f *specFacts) error {
	if f.AppArmor != defaultAppArmor || e.o.Rootless {
		return nil // one of the user's is loaded already, or its start fails
	}
	err := loadAppArmor()
	if err == nil {
		return nil
	}
	asked := slices.ContainsFunc(o.SecurityOpt, func(opt string) bool { return strings.HasPrefix(opt, "apparmor") })
	if asked {
		return fmt.Errorf("AppArmor profile %s: %w", defaultAppArmor, err)
	}
	e.warn("no AppArmor profile: %v", err)
	f.AppArmor = ""
	return nil
}

// loadAppArmor loads the default profile, once a boot.
func loadAppArmor() error {
	loaded, err := os.ReadFile("/sys/kernel/security/apparmor/profiles")
	if err != nil {
		return err
	}
	if bytes.Contains(append([]byte("\n"), loaded...), []byte("\n"+defaultAppArmor+" (")) {
		return nil
	}
	parser := ""
	for _, path := range []string{"/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"} {
		if _, err := os.Stat(path); err == nil {
			parser = path
			break
		}
	}
	if parser == "" {
		return errors.New("apparmor_parser is not installed")
	}
	c := exec.Command(parser, "--replace", "--skip-cache")
	c.Stdin, c.Env = strings.NewReader(defaultAppArmorText), []string{}
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("load it: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
