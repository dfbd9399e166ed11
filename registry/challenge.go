package registry

import "strings"

// A challenge is one way of WWW-Authenticate: what a registry wants to know.
type challenge struct {
	scheme string            // lower case: basic, bearer
	params map[string]string // keys in lower case
}

// parseChallenges reads WWW-Authenticate headers (RFC 9110 section 11.6.1).
// What follows a mistake in a header is left out.
func parseChallenges(headers []string) []challenge {
	var all []challenge
	for _, h := range headers {
		all = append(all, parseHeader(h)...)
	}
	return all
}

func parseHeader(s string) []challenge {
	var all []challenge
	for {
		s = strings.TrimLeft(s, " \t,")
		word, rest := takeToken(s)
		if word == "" {
			return all
		}
		value, after, ok := takeValue(rest)
		if ok && len(all) > 0 {
			all[len(all)-1].params[strings.ToLower(word)] = value
			s = after
			continue
		}
		if ok || rest != "" && !strings.ContainsRune(" \t,", rune(rest[0])) {
			return all // a parameter of nothing, or no token at all
		}
		all = append(all, challenge{strings.ToLower(word), map[string]string{}})
		s = rest
	}
}

// takeValue reads "=value" or `="value"`.
func takeValue(s string) (value, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	if !strings.HasPrefix(s, "=") {
		return "", s, false
	}
	s = strings.TrimLeft(s[1:], " \t")
	if !strings.HasPrefix(s, `"`) {
		value, rest = takeToken(s)
		return value, rest, value != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// takeToken reads a token of RFC 9110; unquoted values with "/" and ":", which
// it does not allow, occur and are taken too.
func takeToken(s string) (token, rest string) {
	i := 0
	for i < len(s) && s[i] > ' ' && s[i] < 0x7f && !strings.ContainsRune(`",=`, rune(s[i])) {
		i++
	}
	return s[:i], s[i:]
}

// nextLink finds the URL with rel="next" in Link headers (RFC 8288), "" none.
func nextLink(headers []string) string {
	for _, h := range headers {
		for h != "" {
			start := strings.IndexByte(h, '<')
			if start < 0 {
				break
			}
			end := strings.IndexByte(h[start:], '>')
			if end < 0 {
				break
			}
			target, rest := h[start+1:start+end], h[start+end+1:]
			params := rest
			if i := strings.IndexByte(rest, '<'); i >= 0 {
				params = rest[:i]
			}
			h = rest[len(params):]
			for p := range strings.FieldsFuncSeq(params, func(r rune) bool { return r == ';' || r == ',' }) {
				k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
				if strings.EqualFold(strings.TrimSpace(k), "rel") && strings.Trim(strings.TrimSpace(v), `"`) == "next" {
					return target
				}
			}
		}
	}
	return ""
}
