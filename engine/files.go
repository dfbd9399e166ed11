package engine

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hull/lsm"
	"hull/monitor"
	"hull/network"
	"hull/snapshot"
)

// writeFiles writes the files that the engine puts into a container: who it
// is, how names are resolved. They are mounted, never written into its own
// file system, where a link could lead anywhere (RT-15).
//
// hosts and resolv.conf stay empty until writeNames, which needs the addresses.
func (e *Engine) writeFiles(r *record, f *specFacts) error {
	w := fileWriter{dir: e.containerRun(r.ID), files: map[string]string{}, taken: r.takenFiles(), own: r.owners(), label: e.mountLabel(r)}
	o := &r.Options
	hostname := containerHostname(r, *f)
	w.write("/run/.containerenv", "containerenv", e.containerEnv(r))
	if !o.NoHostname && hostname != "" {
		w.write("/etc/hostname", "hostname", []byte(hostname+"\n"))
	}
	if err := e.joinHostname(r, f, &w); err != nil {
		return err
	}
	if id, ok := strings.CutPrefix(o.NetworkMode, "container:"); ok {
		if err := e.podHosts(r, true); err != nil {
			return err
		}
		// Whose network it is, his are the names.
		for dst, name := range map[string]string{"/etc/hosts": "hosts", "/etc/resolv.conf": "resolv.conf"} {
			src := filepath.Join(e.containerRun(id), name)
			if _, err := os.Lstat(src); err == nil && !w.taken[dst] && !(dst == "/etc/hosts" && o.NoHosts) {
				w.files[dst] = src
			}
		}
	} else {
		hosts, resolver := e.ownNames(r)
		if hosts {
			w.write("/etc/hosts", "hosts", nil)
		}
		if resolver {
			w.write("/etc/resolv.conf", "resolv.conf", nil)
		}
	}
	if r.bare() {
		return w.err
	}
	passwdFile, groupFile, err := e.userEntries(r)
	if err != nil {
		return err
	}
	if passwdFile != nil {
		w.write("/etc/passwd", "passwd", passwdFile)
	}
	if groupFile != nil {
		w.write("/etc/group", "group", groupFile)
	}
	if o.Timezone == "local" {
		if real, err := filepath.EvalSymlinks("/etc/localtime"); err == nil && !w.taken["/etc/localtime"] {
			w.files["/etc/localtime"] = real
		}
	} else if o.Timezone != "" {
		zone := filepath.Join("/usr/share/zoneinfo", filepath.Clean("/"+o.Timezone))
		if _, err := os.Stat(zone); err != nil {
			return fmt.Errorf("time zone %s: %w", o.Timezone, err)
		}
		if !w.taken["/etc/localtime"] {
			w.files["/etc/localtime"] = zone
		}
	}
	if path := firstOf(o.InitPath, e.o.Defaults.InitPath); o.Init && path != "" {
		w.files[initPath] = path
	}
	if f.Activation.Notify != "" {
		w.files[notifyPath] = filepath.Join(e.containerRun(r.ID), notifySocket)
		if w.err == nil && w.label != "" {
			w.err = lsm.Set(w.files[notifyPath], w.label)
		}
	}
	f.Files = w.files
	if w.err != nil {
		return fmt.Errorf("write the container's files: %w", w.err)
	}
	return nil
}

// ownNames says which files of names a container has of its own: hosts, resolv.conf.
func (e *Engine) ownNames(r *record) (hosts, resolver bool) {
	o := &r.Options
	if strings.HasPrefix(o.NetworkMode, "container:") {
		return false, false
	}
	taken := r.takenFiles()
	return !o.NoHosts && !e.o.Defaults.NoHosts && o.HostsFile != "none" && !taken["/etc/hosts"],
		!slices.Contains(o.DNS, "none") && !taken["/etc/resolv.conf"]
}

// writeNames fills in what writeFiles left empty.
func (e *Engine) writeNames(r *record, f *specFacts, joined []network.Joined) error {
	withHosts, withResolver := e.ownNames(r)
	if withHosts {
		hosts, err := e.hostsFile(r, containerHostname(r, *f), joined)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(e.containerRun(r.ID), "hosts"), hosts, 0o644); err != nil {
			return fmt.Errorf("write the container's files: %w", err)
		}
	}
	if withResolver {
		if err := os.WriteFile(filepath.Join(e.containerRun(r.ID), "resolv.conf"), e.resolvConf(r, joined), 0o644); err != nil {
			return fmt.Errorf("write the container's files: %w", err)
		}
	}
	return nil
}

// mountPoints are the paths that nearly every container has something mounted
// on, and that images often lack.
func (e *Engine) mountPoints(r *record) snapshot.Points {
	if r.Step {
		// Each stands on a base of its own, on which nothing else will start.
		return snapshot.Points{}
	}
	o := &r.Options
	p := snapshot.Points{Dirs: []string{"/dev", "/proc", "/sys"}}
	taken := r.takenFiles()
	add := func(file string, wanted bool) {
		if wanted && !taken[file] {
			p.Files = append(p.Files, file)
		}
	}
	own := !strings.HasPrefix(o.NetworkMode, "container:")
	add("/run/.containerenv", true)
	add("/etc/hostname", !o.NoHostname)
	add("/etc/hosts", own && !o.NoHosts && !e.o.Defaults.NoHosts && o.HostsFile != "none" && o.HostsFile != "image")
	add("/etc/resolv.conf", own && !slices.Contains(o.DNS, "none"))
	return p
}

// takenFiles are the destinations that the user mounts himself.
func (r *record) takenFiles() map[string]bool {
	taken := map[string]bool{}
	for _, m := range r.Mounts {
		taken[m.Destination] = true
	}
	return taken
}

// A fileWriter keeps the first error.
type fileWriter struct {
	dir   string
	files map[string]string
	taken map[string]bool
	own   owners
	label string // SELinux's, "" for none
	err   error
}

// write makes a file that the container may write to, if it is root: nobody
// else reads the directory, so it needs no rename.
func (w *fileWriter) write(dst, name string, data []byte) {
	if w.taken[dst] || w.err != nil {
		return
	}
	file := filepath.Join(w.dir, name)
	w.err = os.WriteFile(file, data, 0o644)
	if w.err == nil && !w.own.none() {
		w.err = os.Chown(file, outside(w.own.uids, 0), outside(w.own.gids, 0))
	}
	if w.err == nil && w.label != "" {
		w.err = lsm.Set(file, w.label)
	}
	w.files[dst] = file
}

// rewrite replaces the text of a file that is mounted where it is read, and so
// cannot become another file. Whoever reads meanwhile, or after a kill, finds
// the old text or the new one, perhaps with empty lines after it: it is one
// write, as long as the old text, and then a cut.
func rewrite(file string, text []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	padded := slices.Clone(text)
	if more := int(st.Size()) - len(text); more > 0 {
		padded = append(padded, bytes.Repeat([]byte{'\n'}, more)...)
	}
	if _, err := f.Write(padded); err != nil {
		return err
	}
	return f.Truncate(int64(len(text)))
}

func (e *Engine) containerEnv(r *record) []byte {
	rootless := 0
	if e.o.Rootless {
		rootless = 1
	}
	return fmt.Appendf(nil, "engine=\"hull-%s\"\nname=%q\nid=%q\nimage=%q\nimageid=%q\nrootless=%d\n",
		Version(), r.Name, r.ID, r.ImageName, r.ImageID, rootless)
}

// hostsFile: the user's names first, since the first one counts; then the
// base's, the container's own, and the host's as seen from inside.
func (e *Engine) hostsFile(r *record, hostname string, joined []network.Joined) ([]byte, error) {
	o := &r.Options
	var b bytes.Buffer
	gateway := ""
	for _, j := range joined {
		for _, g := range j.Gateways {
			if gateway == "" && g.Is4() {
				gateway = g.String()
			}
		}
	}
	for _, h := range o.AddHosts {
		names, ip, ok := strings.Cut(h, ":")
		if !ok || names == "" {
			return nil, fmt.Errorf("host %q: want NAME:IP", h)
		}
		if ip == "host-gateway" {
			if ip = gateway; ip == "" {
				return nil, fmt.Errorf("host %q: the container has no gateway to the host", h)
			}
		}
		ip = strings.Trim(ip, "[]")
		if _, err := netip.ParseAddr(ip); err != nil {
			return nil, fmt.Errorf("host %q: %q is no address", h, ip)
		}
		for name := range strings.SplitSeq(names, ";") {
			if strings.ContainsAny(name, " \t\r\n#") {
				return nil, fmt.Errorf("host %q: %q is no name", h, name)
			}
			fmt.Fprintf(&b, "%s\t%s\n", ip, name)
		}
	}
	base := "/etc/hosts"
	switch {
	case o.HostsFile == "image":
		root, err := e.openTree(r)
		if err != nil {
			return nil, err
		}
		defer root.Close()
		data, err := readInRoot(root, "etc/hosts", 1<<20)
		if err != nil {
			return nil, err
		}
		b.Write(data)
		base = ""
	case o.HostsFile != "":
		base = o.HostsFile
	}
	if base != "" {
		data, err := os.ReadFile(base)
		if err != nil && o.HostsFile != "" {
			return nil, fmt.Errorf("hosts file: %w", err)
		}
		writeBaseHosts(&b, data, o.NetworkMode == "host")
	}
	if o.NetworkMode == "host" {
		return b.Bytes(), nil
	}
	if gateway != "" {
		fmt.Fprintf(&b, "%s\thost.containers.internal host.docker.internal\n", gateway)
	}
	own := false
	for _, j := range joined {
		for _, a := range j.Addresses {
			own = true
			fmt.Fprintf(&b, "%s\t%s\n", a.Addr(), ownNames(hostname, r.Name))
		}
	}
	if !own && hostname != "" {
		fmt.Fprintf(&b, "127.0.0.1\t%s\n", ownNames(hostname, r.Name))
	}
	return b.Bytes(), nil
}

func ownNames(hostname, name string) string {
	if hostname == "" || hostname == name {
		return name
	}
	return hostname + " " + name
}

// writeBaseHosts copies a host's names but, for a container with a network of
// its own, those of addresses that mean another machine inside.
func writeBaseHosts(b *bytes.Buffer, data []byte, all bool) {
	local4, local6 := false, false
	for line := range strings.Lines(string(data)) {
		text, _, _ := strings.Cut(line, "#")
		f := strings.Fields(text)
		if len(f) < 2 {
			continue
		}
		if !all {
			a, err := netip.ParseAddr(f[0])
			if err != nil || a.IsLoopback() && !slices.Contains(f[1:], "localhost") {
				continue
			}
			local4 = local4 || a.IsLoopback() && a.Is4()
			local6 = local6 || a.IsLoopback() && a.Is6()
			if a.IsLoopback() {
				// The host's own name there is not the container's.
				f = slices.DeleteFunc(f, func(n string) bool {
					return n != f[0] && !strings.HasPrefix(n, "localhost") && !strings.HasPrefix(n, "ip6-")
				})
			}
		}
		b.WriteString(f[0] + "\t" + strings.Join(f[1:], " ") + "\n")
	}
	if !all && !local4 {
		b.WriteString("127.0.0.1\tlocalhost\n")
	}
	if !all && !local6 {
		b.WriteString("::1\tlocalhost\n")
	}
}

// resolvConf: the user's servers, the networks', or the host's.
func (e *Engine) resolvConf(r *record, joined []network.Joined) []byte {
	o := &r.Options
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		host = nil
	}
	servers, search, options := parseResolv(host)
	own := o.NetworkMode != "host" && !strings.HasPrefix(o.NetworkMode, "ns:")
	if own {
		// A server on the host's loopback is nobody's inside.
		servers = slices.DeleteFunc(servers, func(s string) bool {
			a, err := netip.ParseAddr(s)
			return err == nil && a.IsLoopback()
		})
	}
	for _, j := range joined {
		if len(j.DNSServer) > 0 {
			servers = nil
			for _, a := range j.DNSServer {
				servers = append(servers, a.String())
			}
		}
	}
	if len(e.o.Defaults.DNS) > 0 {
		servers = e.o.Defaults.DNS
	}
	if len(o.DNS) > 0 {
		servers = o.DNS
	}
	if named(joined) {
		// It asks those in its turn.
		servers, search = []string{network.NameServer.String()}, append([]string{monitor.NameDomain}, search...)
	}
	if len(o.DNSSearch) > 0 {
		own := slices.DeleteFunc(slices.Clone(o.DNSSearch), func(s string) bool { return s == "." })
		if search = own; named(joined) && !slices.Contains(o.DNSSearch, ".") {
			search = append(own, monitor.NameDomain)
		}
	}
	if len(o.DNSOptions) > 0 {
		options = o.DNSOptions
	}
	var b bytes.Buffer
	if len(search) > 0 {
		b.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(options) > 0 {
		b.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return b.Bytes()
}

func parseResolv(data []byte) (servers, search, options []string) {
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			servers = append(servers, f[1])
		case "search", "domain":
			search = f[1:]
		case "options":
			options = append(options, f[1:]...)
		}
	}
	return servers, search, options
}
