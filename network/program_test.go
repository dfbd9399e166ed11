package network

import (
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseOutside(t *testing.T) {
	for mode, want := range map[string]string{
		"private":                               "",
		"pasta":                                 "",
		"pasta:--mtu,1500,-T,5203":              "",
		"slirp4netns":                           "",
		"slirp4netns:mtu=1500,cidr=10.9.0.0/24": "",
		"slirp4netns:enable_ipv6=false,allow_host_loopback=true,outbound_addr=eth0,port_handler=slirp4netns": "",
		"slirp4netns:mtu=65522":              "mtu of slirp4netns",
		"slirp4netns:mtu=a":                  "mtu of slirp4netns",
		"slirp4netns:cidr=10.9.0.0/26":       "room for 100",
		"slirp4netns:cidr=fd00::/64":         "IPv4",
		"slirp4netns:port_handler=x":         "rootlesskit or slirp4netns",
		"slirp4netns:enable_ipv6":            "no value",
		"slirp4netns:outbound_addr=--netns":  "an address",
		"slirp4netns:colour=blue":            "not known",
		"slirp4netns:allow_host_loopback=zz": "true or false",
	} {
		_, err := ParseOutside(mode)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("ParseOutside(%q) = %v, want error %q", mode, err, want)
		}
	}
}

func TestPastaArguments(t *testing.T) {
	ports := []PortMapping{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}, {HostPort: 9000, ContainerPort: 90, Range: 3, Protocol: "udp"}}
	for _, c := range []struct {
		options []string
		ports   []PortMapping
		want    string
	}{
		{nil, nil, "-t none -u none -T none -U none --no-map-gw --dns-forward 169.254.1.1 --quiet"},
		{nil, ports, "-t 127.0.0.1/8080:80 -u 9000-9002:90-92 -T none -U none --no-map-gw --dns-forward 169.254.1.1 --quiet"},
		{[]string{"-T", "5203", "--map-gw", "--dns-forward=1.1.1.1", "-d"}, nil, "-T 5203 --dns-forward=1.1.1.1 -d -t none -u none -U none"},
	} {
		j, err := pastaJob("pasta", "/d", c.options, nil, c.ports)
		if err != nil {
			t.Fatal(err)
		}
		want := "pasta --config-net --foreground --pid /d/ready --no-netns-quit " + c.want + " --netns /d/netns"
		if got := strings.Join(j.Argv, " "); got != want {
			t.Errorf("arguments with %q and %v\n got %s\nwant %s", c.options, c.ports, got, want)
		}
	}
	if _, err := pastaJob("pasta", "/d", nil, nil, []PortMapping{{HostPort: 1, ContainerPort: 1, Protocol: "sctp"}}); err == nil {
		t.Error("pasta is given a port of SCTP")
	}
}

func TestSlirpArguments(t *testing.T) {
	s, err := slirpOptions([]string{"cidr=10.9.1.7/24", "mtu=1500", "outbound_addr6=::1", "port_handler=slirp4netns"})
	if err != nil {
		t.Fatal(err)
	}
	j := s.job("slirp4netns", "/d", "tap0")
	want := "slirp4netns --configure --ready-fd=3 --enable-sandbox --enable-seccomp --cidr=10.9.1.0/24 --outbound-addr6=::1 --mtu=1500 --enable-ipv6 --disable-host-loopback --api-socket=/d/api --netns-type=path /d/netns tap0"
	if got := strings.Join(j.Argv, " "); got != want {
		t.Errorf("arguments\n got %s\nwant %s", got, want)
	}
	if s.at(3).String() != "10.9.1.3" || j.Guest.String() != "10.9.1.100" {
		t.Errorf("addresses = %v, %v", s.at(3), j.Guest)
	}
}

// NET-06: what a mode or a file names is one of a fixed list of programs, found
// in PATH, never a path.
func TestNET06ProgramsOfAList(t *testing.T) {
	for _, p := range []string{"/bin/sh", "../pasta", "sh", "pasta2"} {
		if err := (Outside{Program: p}).check(); err == nil {
			t.Errorf("program %q is taken", p)
		}
	}
	t.Setenv("PATH", t.TempDir())
	_, err := Outside{Program: OutsidePasta}.find()
	var h interface{ Hint() string }
	if !isA(err, &h) || !strings.Contains(h.Hint(), "passt") || !strings.Contains(err.Error(), fs.ErrNotExist.Error()) {
		t.Errorf("pasta not installed: %v has no hint", err)
	}
	if !slices.Contains([]string{"", OutsideHull}, (&Manager{}).o.Outside.Program) {
		t.Error("the default is another's program")
	}
}

func isA[T any](err error, to *T) bool {
	h, ok := err.(T)
	*to = h
	return ok
}
