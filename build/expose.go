package build

import (
	"fmt"
	"strconv"
	"strings"
)

// expose adds ports: PORT[-PORT][/PROTOCOL], as words after expansion.
func (st *stage) expose(words []string) error {
	for _, w := range words {
		list, err := st.scope.ExpandWords(w)
		if err != nil {
			return err
		}
		for _, p := range list {
			ports, err := parsePorts(p)
			if err != nil {
				return fmt.Errorf("expose %s: %w", p, err)
			}
			for _, port := range ports {
				st.config.Config.ExposedPorts = put(st.config.Config.ExposedPorts, port, struct{}{})
			}
		}
	}
	return nil
}

func parsePorts(s string) ([]string, error) {
	text, proto, ok := strings.Cut(s, "/")
	if !ok {
		proto = "tcp"
	}
	switch proto = strings.ToLower(proto); proto {
	case "tcp", "udp", "sctp":
	default:
		return nil, fmt.Errorf("protocol %q is not tcp, udp or sctp", proto)
	}
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q is not a number from 0 to 65535", first)
	}
	to, err := strconv.ParseUint(last, 10, 16)
	if err != nil || to < from {
		return nil, fmt.Errorf("port range %q does not go upwards", text)
	}
	var all []string
	for p := from; p <= to; p++ {
		all = append(all, strconv.FormatUint(p, 10)+"/"+proto)
	}
	return all, nil
}
