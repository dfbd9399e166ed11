package containerfile

import "strings"

// Redact is text in which the user and password of each URL are "xxxxx". A user
// without a password may be a token, but not for ssh, where it is a name.
func Redact(text string) string { return replaceUsers(text, "xxxxx@", true) }

// WithoutUsers is text in which URLs have neither user nor password.
func WithoutUsers(text string) string { return replaceUsers(text, "", false) }

// replaceUsers does not parse: what is no valid URL may be valid to another
// program, and its password is one.
func replaceUsers(text, with string, keepNames bool) string {
	var out strings.Builder
	for {
		before, after, ok := strings.Cut(text, "://")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		out.WriteString("://")
		end := strings.IndexAny(after, "/?# \t\n\"'`<>")
		if end < 0 {
			end = len(after)
		}
		if at := strings.LastIndexByte(after[:end], '@'); at >= 0 && !(keepNames && strings.HasSuffix(before, "ssh") && !strings.Contains(after[:at], ":")) {
			out.WriteString(with)
			after = after[at+1:]
		}
		text = after
	}
}
