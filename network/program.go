package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// Programs that can be the outside of a namespace. The first is hull-net's own
// stack; the others are found in PATH.
const (
	OutsideHull  = "hull"
	OutsidePasta = "pasta"
	OutsideSlirp = "slirp4netns"
)

// An Outside says which program carries what leaves a namespace, and how.
type Outside struct {
	Program string   // "" is OutsideHull
	Options []string // pasta's own arguments; slirp4netns' KEY=VALUE
}

// ParseOutside reads a network mode, PROGRAM[:OPTION,…]. As podman has it,
// private means a stack of the container's own, of the default program.
func ParseOutside(mode string) (Outside, error) {
	word, rest, _ := strings.Cut(mode, ":")
	o := Outside{Program: word}
	if word == "private" {
		o.Program = ""
	}
	if rest != "" {
		o.Options = strings.Split(rest, ",")
	}
	return o, o.check()
}

func (o Outside) check() error {
	switch o.Program {
	case "", OutsideHull, OutsidePasta:
		return nil
	case OutsideSlirp:
		_, err := slirpOptions(o.Options)
		return err
	}
	return fmt.Errorf("rootless network command %q is not pasta, slirp4netns or hull", o.Program)
}

// find returns the path of the program.
func (o Outside) find() (string, error) {
	path, err := exec.LookPath(o.Program)
	if err == nil {
		return path, nil
	}
	pkg := o.Program
	if pkg == OutsidePasta {
		pkg = "passt"
	}
	err = fmt.Errorf("find %s: %w", o.Program, fs.ErrNotExist)
	return "", hint(err, "install the package %s, or leave it out of --network and default_rootless_network_cmd: Hull has a stack of its own", pkg)
}

// A Job is what hull-net is told to do for a namespace whose outside is another
// program: run it, see that it stays, and end it.
type Job struct {
	Argv []string `json:"argv"`
	// ReadyFD is the descriptor on which the program says that it is ready;
	// 0 means by writing its process number to Dir/ready.
	ReadyFD int `json:"ready_fd,omitempty"`
	// Dir is an empty directory, hidden by a file system of this process
	// alone: there are netns, ready and api.
	Dir string `json:"dir"`
	// Record is the file with which the job ends; "" looks for veths.
	Record string `json:"record,omitempty"`
	// Forward are published ports to tell the program by its Dir/api.
	Forward []PortMapping `json:"forward,omitempty"`
	Guest   netip.Addr    `json:"guest,omitzero"`
}

// JobCommand is the first argument with which the helper's main does a job,
// the second. Descriptors as for OutsideCommand; 5 is the namespace.
const JobCommand = "outside-job"

// Encode is the form of a job as an argument.
func (j Job) Encode() (string, error) {
	b, err := json.Marshal(j)
	return string(b), err
}

// slirp is what the options of slirp4netns come to.
type slirp struct {
	args    []string
	cidr    netip.Prefix
	host    bool   // its gateway is the host's loopback
	handler string // of published ports: rootlesskit, which is Proxy here, or slirp4netns
}

// slirpOptions translates podman's options of --network slirp4netns.
func slirpOptions(options []string) (slirp, error) {
	s := slirp{cidr: netip.PrefixFrom(UserAddress.Masked().Addr(), UserAddress.Bits()), handler: "rootlesskit"}
	mtu, six := strconv.Itoa(UserMTU), true
	for _, o := range options {
		k, v, ok := strings.Cut(o, "=")
		bad := func(why string) error { return fmt.Errorf("option %s of slirp4netns: %q is not %s", k, v, why) }
		var err error
		switch {
		case !ok:
			return s, fmt.Errorf("option %q of slirp4netns has no value", k)
		case k == "cidr":
			if s.cidr, err = netip.ParsePrefix(v); err != nil || !s.cidr.Addr().Is4() || s.cidr.Bits() > 25 {
				return s, bad("an IPv4 network with room for 100 addresses")
			}
			s.cidr = s.cidr.Masked()
			s.args = append(s.args, "--cidr="+s.cidr.String())
		case k == "mtu":
			if n, err := strconv.Atoi(v); err != nil || n < 68 || n > 65521 {
				return s, bad("a number from 68 to 65521")
			}
			mtu = v
		case k == "enable_ipv6":
			if six, err = strconv.ParseBool(v); err != nil {
				return s, bad("true or false")
			}
		case k == "allow_host_loopback":
			if s.host, err = strconv.ParseBool(v); err != nil {
				return s, bad("true or false")
			}
		case k == "outbound_addr" || k == "outbound_addr6":
			if strings.HasPrefix(v, "-") || v == "" {
				return s, bad("an address or an interface")
			}
			s.args = append(s.args, "--"+strings.ReplaceAll(k, "_", "-")+"="+v)
		case k == "port_handler":
			if v != "rootlesskit" && v != OutsideSlirp {
				return s, bad("rootlesskit or slirp4netns")
			}
			s.handler = v
		default:
			return s, fmt.Errorf("option %q of slirp4netns is not known: cidr, mtu, enable_ipv6, allow_host_loopback, outbound_addr, outbound_addr6, port_handler", k)
		}
	}
	s.args = append(s.args, "--mtu="+mtu)
	if six {
		s.args = append(s.args, "--enable-ipv6")
	}
	if !s.host {
		s.args = append(s.args, "--disable-host-loopback")
	}
	return s, nil
}

// at is the n-th address of the network.
func (s slirp) at(n byte) netip.Addr {
	b := s.cidr.Addr().As4()
	b[3] += n
	return netip.AddrFrom4(b)
}

// slirpReady is the descriptor on which slirp4netns says that it is ready.
const slirpReady = 3

// job is the command line of a slirp4netns.
func (s slirp) job(path, dir, device string) Job {
	argv := append([]string{path, "--configure", "--ready-fd=" + strconv.Itoa(slirpReady), "--enable-sandbox", "--enable-seccomp"}, s.args...)
	if s.handler == OutsideSlirp {
		argv = append(argv, "--api-socket="+dir+"/api")
	}
	return Job{Argv: append(argv, "--netns-type=path", dir+"/netns", device), ReadyFD: slirpReady, Dir: dir, Guest: s.at(100)}
}

// pastaJob is the command line of a pasta. What the user says replaces what
// would be said for him.
func pastaJob(path, dir string, options, own []string, ports []PortMapping) (Job, error) {
	argv := append([]string{path, "--config-net", "--foreground", "--pid", dir + "/ready", "--no-netns-quit"}, own...)
	argv = append(argv, options...)
	given := func(names ...string) bool {
		return slices.ContainsFunc(argv, func(o string) bool {
			o, _, _ = strings.Cut(o, "=")
			return slices.Contains(names, o)
		})
	}
	tcp, udp := given("-t", "--tcp-ports"), given("-u", "--udp-ports")
	for _, p := range ports {
		flag := "-t"
		switch p.Protocol {
		case "udp":
			flag, udp = "-u", true
		case "tcp":
			tcp = true
		default:
			return Job{}, fmt.Errorf("publish %s: pasta carries tcp and udp", p)
		}
		argv = append(argv, flag, p.pasta())
	}
	for _, d := range []struct {
		given bool
		args  []string
	}{
		{tcp, []string{"-t", "none"}}, {udp, []string{"-u", "none"}},
		{given("-T", "--tcp-ns"), []string{"-T", "none"}}, {given("-U", "--udp-ns"), []string{"-U", "none"}},
		{given("--map-gw", "--no-map-gw"), []string{"--no-map-gw"}},
		{given("--dns-forward"), []string{"--dns-forward", pastaDNS.String()}},
		{given("-q", "--quiet", "-d", "--debug", "--trace"), []string{"--quiet"}},
	} {
		if !d.given {
			argv = append(argv, d.args...)
		}
	}
	// Podman's own word, for the default of pasta.
	argv = slices.DeleteFunc(argv, func(a string) bool { return a == "--map-gw" })
	return Job{Argv: append(argv, "--netns", dir+"/netns"), Dir: dir}, nil
}

// pastaDNS is where a pasta answers for the host's resolvers, as podman has it.
var pastaDNS = netip.MustParseAddr("169.254.1.1")

// pasta is the form of a mapping that pasta's -t and -u take.
func (p PortMapping) pasta() string {
	host := ""
	if p.HostIP.IsValid() {
		host = p.HostIP.String() + "/"
	}
	ports := func(first uint16) string {
		if p.count() == 1 {
			return fmt.Sprint(first)
		}
		return fmt.Sprintf("%d-%d", first, int(first)+p.count()-1)
	}
	return host + ports(p.HostPort) + ":" + ports(p.ContainerPort)
}

// ErrRootPasta is podman's answer to --network pasta by root.
var ErrRootPasta = errors.New("pasta networking is only supported for rootless mode")
