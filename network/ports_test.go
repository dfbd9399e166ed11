package network

import (
	"fmt"
	"strings"
	"testing"
)

func TestParsePorts(t *testing.T) {
	for spec, want := range map[string]string{
		"80":                            "0:80/tcp",
		"80/udp":                        "0:80/udp",
		"8080:80":                       "8080:80/tcp",
		"8080:80/SCTP":                  "8080:80/sctp",
		":80":                           "0:80/tcp",
		"0:80":                          "0:80/tcp",
		"127.0.0.1:8080:80":             "127.0.0.1:8080:80/tcp",
		"127.0.0.1::80":                 "127.0.0.1:0:80/tcp",
		"[::1]:8080:80":                 "[::1]:8080:80/tcp",
		"[::ffff:127.0.0.1]:8080:80":    "127.0.0.1:8080:80/tcp",
		"8000-8002:80-82":               "8000-8002:80-82/tcp",
		"192.0.2.1:8000-8001:80-81/udp": "192.0.2.1:8000-8001:80-81/udp",
		"65535:65535":                   "65535:65535/tcp",
		"":                              "!",
		"0":                             "!",
		"65536":                         "!",
		"+80":                           "!",
		"80/icmp":                       "!",
		"::1:8080:80":                   "!",
		"[fe80::1%eth0]:8080:80":        "!",
		"host:8080:80":                  "!",
		"8000-8001:80":                  "!",
		"82-80":                         "!",
		"8080:80:":                      "!",
		"80-":                           "!",
	} {
		got, err := ParsePorts([]string{spec})
		if want == "!" {
			if err == nil {
				t.Errorf("ParsePorts(%q) = %v, want an error", spec, got)
			}
			continue
		}
		if err != nil || got[0].String() != want {
			t.Errorf("ParsePorts(%q) = %v, %v, want %s", spec, got, err, want)
		}
	}
	for _, twice := range []string{"80:1 80:2", "80:1 127.0.0.1:80:2", "80-90:1-11 85:2"} {
		if got, err := ParsePorts(strings.Fields(twice)); err == nil {
			t.Errorf("ParsePorts(%s) = %v, want an error", twice, got)
		}
	}
	for _, both := range []string{"80:1 80:2/udp", "127.0.0.1:80:1 127.0.0.2:80:2", "80 80"} {
		if _, err := ParsePorts(strings.Fields(both)); err != nil {
			t.Errorf("ParsePorts(%s) = %v", both, err)
		}
	}
}

func FuzzParsePorts(f *testing.F) {
	for _, s := range []string{"80", "[::1]:8080-8081:80-81/udp", "127.0.0.1::80", "-:-/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		got, err := ParsePorts([]string{spec})
		if err != nil {
			return
		}
		p := got[0]
		if int(p.ContainerPort)+p.count() > 65536 || int(p.HostPort)+p.count() > 65536 || p.ContainerPort == 0 {
			t.Fatalf("ParsePorts(%q) = %+v, which leaves the range of ports", spec, p)
		}
		if p.HostPort == 0 && p.count() > 1 {
			return // "0-2" is no form that is read
		}
		again, err := ParsePorts([]string{p.String()})
		if err != nil || fmt.Sprint(again[0]) != fmt.Sprint(p) {
			t.Fatalf("ParsePorts(%q) = %v, read again %v, %v", spec, p, again, err)
		}
	})
}
