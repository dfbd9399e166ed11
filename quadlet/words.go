package quadlet

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// split cuts a command line into words as systemd does: quotes of both kinds
// hold words together and are taken away, C escapes are undone. What is not an
// escape stays as it is, and a quote that is not closed ends with the line.
func split(s string) []string { return cut(s, true) }

// splitKeeping is split for lists whose words keep their backslashes.
func splitKeeping(s string) []string { return cut(s, false) }

func cut(s string, unescape bool) []string {
	var words []string
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			inWord = true
			if text, n := escape(s[i:]); unescape && n > 0 {
				word.WriteString(text)
				i += n - 1
				continue
			}
			word.WriteString(s[i : i+2])
			i++
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			inWord, quote = true, c
		case quote == 0 && strings.IndexByte(blank, c) >= 0:
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			inWord = true
			word.WriteByte(c)
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}

// balanced says whether every quote of s is closed.
func balanced(s string) bool {
	quote := byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		}
	}
	return quote == 0
}

// escape undoes the escape that s begins with, of n bytes; n is 0 when it is
// none.
func escape(s string) (text string, n int) {
	const from, to = `abfnrtvs\"'`, "\a\b\f\n\r\t\v \\\"'"
	if i := strings.IndexByte(from, s[1]); i >= 0 {
		return to[i : i+1], 2
	}
	digits, base, first := 0, 16, 2
	switch c := s[1]; {
	case c == 'x':
		digits = 2
	case c == 'u':
		digits = 4
	case c == 'U':
		digits = 8
	case c >= '0' && c <= '7':
		digits, base, first = 3, 8, 1
	default:
		return "", 0
	}
	if len(s) < first+digits {
		return "", 0
	}
	v, err := strconv.ParseUint(s[first:first+digits], base, 32)
	switch {
	case err != nil || v == 0: // no argument can hold a NUL
		return "", 0
	case digits > 3 && utf8.ValidRune(rune(v)):
		return string(rune(v)), first + digits
	case digits <= 3 && v < 256:
		return string([]byte{byte(v)}), first + digits
	}
	return "", 0
}

// join is the command line that systemd cuts into these words.
func join(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(quoted(w))
	}
	return b.String()
}

func quoted(w string) string {
	// A semicolon alone would begin another command.
	if w != "" && w != ";" && !strings.ContainsFunc(w, special) && utf8.ValidString(w) {
		return w
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(w); {
		r, n := utf8.DecodeRuneInString(w[i:])
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == utf8.RuneError && n == 1, r < utf8.RuneSelf && unicode.IsControl(r):
			fmt.Fprintf(&b, `\x%02x`, w[i])
		default:
			b.WriteString(w[i : i+n])
		}
		i += n
	}
	b.WriteByte('"')
	return b.String()
}

func special(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`"'\`, r)
}
