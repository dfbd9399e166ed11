package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"hull/engine"
)

// options turns the parsed flags and the arguments IMAGE [COMMAND [ARG...]]
// into what the engine is asked for.
func (c *createFlags) options(argv, args []string) (engine.CreateOptions, error) {
	o := c.o
	o.CreateCommand = argv
	if err := c.setImage(&o, args); err != nil {
		return o, err
	}
	if c.podIDFile != "" {
		ids, err := readPodFiles(nil, []string{c.podIDFile})
		if err != nil {
			return o, err
		}
		if o.Pod != "" {
			return o, errors.New("cannot specify both --pod and --pod-id-file")
		}
		o.Pod = ids[0]
	}
	switch o.InitCtr {
	case "", "once", "always":
	default:
		return o, fmt.Errorf("init-ctr value must be 'always' or 'once': %q", o.InitCtr)
	}
	if err := c.setProcess(&o); err != nil {
		return o, err
	}
	if err := c.setMetadata(&o); err != nil {
		return o, err
	}
	if err := setMemory(&o.Resources, c.memorySwap, c.swappiness); err != nil {
		return o, err
	}
	if err := c.setNetwork(&o); err != nil {
		return o, err
	}
	switch c.imageVolume {
	case "anonymous", "bind", "":
		o.ImageVolume = ""
	case "tmpfs", "ignore":
		o.ImageVolume = c.imageVolume
	default:
		return o, fmt.Errorf("invalid image-volume type %q, choose anonymous, bind, tmpfs or ignore", c.imageVolume)
	}
	if !c.readOnlyTmpfs {
		o.ReadOnlyTmpfs = &c.readOnlyTmpfs
	}
	health, err := c.health.options()
	if err != nil {
		return o, err
	}
	o.Health = health
	if o.AutoRemove && o.Restart != "" && o.Restart != "no" {
		return o, errors.New(`the --rm option conflicts with --restart, when the restartPolicy is not "" and "no"`)
	}
	return o, nil
}

func (c *createFlags) setImage(o *engine.CreateOptions, args []string) error {
	name := args[0]
	o.Command = args[1:]
	if c.rootfs {
		o.Rootfs = name
		for {
			path, suffix, _ := cutLast(o.Rootfs, ":")
			if suffix == "O" {
				o.RootfsOverlay = true
			} else {
				break
			}
			o.Rootfs = path
		}
	} else {
		o.Image = name
	}
	var err error
	if o.Pull, err = checkPull(o.Pull); err != nil {
		return err
	}
	if c.arch != "" || c.os != "" || c.variant != "" {
		if o.Platform != "" {
			return errors.New("--platform option can not be specified with --arch or --os")
		}
		o.Platform = platform(c.os, c.arch, c.variant)
	}
	return nil
}

// platform joins the three parts; "" parts are this machine's.
func platform(os, arch, variant string) string {
	if os == "" {
		os = "linux"
	}
	if arch == "" {
		arch = runtime.GOARCH
	}
	p := os + "/" + arch
	if variant != "" {
		p += "/" + variant
	}
	return p
}

func (c *createFlags) setProcess(o *engine.CreateOptions) error {
	if c.entrypoint != nil {
		o.Entrypoint = parseEntrypoint(*c.entrypoint)
	}
	if !c.passwd {
		o.Passwd = &c.passwd
	}
	for _, stream := range c.attach {
		word := strings.ToLower(stream)
		switch word {
		case "stdin", "stdout", "stderr":
			o.Attach = append(o.Attach, word)
		default:
			return fmt.Errorf("invalid stream %q for --attach - must be one of stdin, stdout, or stderr: invalid argument", stream)
		}
	}
	o.PreserveFDs = int(c.preserveFDs)
	switch o.SdNotify {
	case "conmon", "healthy", "ignore":
	case "container":
		o.SdNotify = ""
	default:
		return fmt.Errorf("invalid sdnotify value %q: must be container, conmon, healthy or ignore", o.SdNotify)
	}
	if o.Systemd == "true" {
		o.Systemd = ""
	}
	if o.Cgroups == "enabled" {
		o.Cgroups = ""
	}
	return nil
}

// parseEntrypoint: a JSON list is the words, other text one word, nothing
// clears the image's.
func parseEntrypoint(s string) *[]string {
	words := []string{}
	if s == "" || json.Unmarshal([]byte(s), &words) == nil && words != nil {
		return &words
	}
	return &[]string{s}
}

// readEnvFile is readLines of a file that may be missing when a dash stands
// before it, as in systemd's EnvironmentFile=.
func readEnvFile(path string) ([]string, error) {
	may, ok := strings.CutPrefix(path, "-")
	if !ok || may == "" {
		return readLines(path)
	}
	lines, err := readLines(may)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return lines, err
}

// unitLabel says which service of systemd a container belongs to: the service
// gives its name in a variable.
const unitLabel = "PODMAN_SYSTEMD_UNIT"

func (c *createFlags) setMetadata(o *engine.CreateOptions) error {
	for _, path := range c.envFiles {
		lines, err := readEnvFile(path)
		if err != nil {
			return fmt.Errorf("read --env-file: %w", err)
		}
		for _, l := range lines {
			if strings.HasPrefix(l, "=") {
				return fmt.Errorf("parse --env-file %s: no variable name on line %q", path, l)
			}
		}
		o.Env = append(o.Env, lines...)
	}
	for _, e := range c.env {
		if e == "" || strings.HasPrefix(e, "=") {
			return fmt.Errorf("no variable name on line %q: invalid argument", e)
		}
	}
	o.Env = append(o.Env, c.env...)
	var labels []string
	for _, path := range c.labelFiles {
		lines, err := readLines(path)
		if err != nil {
			return fmt.Errorf("read --label-file: %w", err)
		}
		labels = append(labels, lines...)
	}
	var err error
	if o.Labels, err = pairs("label", append(labels, c.labels...), true); err != nil {
		return err
	}
	if unit := os.Getenv(unitLabel); unit != "" {
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels[unitLabel] = unit
	}
	o.Annotations, err = pairs("annotation", c.annotations, false)
	return err
}

func (c *createFlags) setNetwork(o *engine.CreateOptions) error {
	if len(c.networks) > 0 {
		mode, attach, err := engine.ParseNetwork(c.networks)
		if err != nil {
			return err
		}
		o.NetworkMode, o.Networks = mode, attach
	}
	var err error
	o.Publish, err = ports(c.publish)
	return err
}

// pairs reads KEY=VALUE words; bare allows a KEY alone.
func pairs(what string, words []string, bare bool) (map[string]string, error) {
	if len(words) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(words))
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if k == "" || !ok && !bare {
			return nil, fmt.Errorf("invalid %s %q: must be key=value: invalid argument", what, w)
		}
		m[k] = v
	}
	return m, nil
}

// readLines reads a file of one entry a line; empty lines and those that begin
// with # are left out, and so is white space before an entry.
func readLines(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lines []string
	in := bufio.NewScanner(f)
	in.Buffer(make([]byte, 0, 4096), 1<<20) // an entry is at most an execve argument long
	for in.Scan() {
		l := strings.TrimLeft(in.Text(), " \t\ufeff")
		if l != "" && !strings.HasPrefix(l, "#") {
			lines = append(lines, strings.TrimSuffix(l, "\r"))
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return lines, nil
}

// cutLast cuts s around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
