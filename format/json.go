package format

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
)

// IsJSON reports whether the text of --format asks for JSON of everything:
// "json" or "{{json .}}".
func IsJSON(text string) bool {
	s := strings.TrimSpace(text)
	if s == "json" {
		return true
	}
	inner, ok := strings.CutPrefix(s, "{{")
	if inner, ok = strings.CutSuffix(inner, "}}"); !ok {
		return false
	}
	words := strings.Fields(inner)
	return len(words) >= 1 && words[0] == "json" && (len(words) == 1 || len(words) == 2 && words[1] == ".")
}

// JSON writes v indented by indent, with a newline at the end. < > & stay as
// they are; control bytes become \u escapes, C1 controls too.
func JSON(w io.Writer, v any, indent string) error {
	b, err := encode(v, indent)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func encode(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return escapeC1(b.Bytes()), nil
}

// escapeC1 escapes DEL and the C1 controls, which encoding/json leaves and
// some terminals obey.
func escapeC1(b []byte) []byte {
	if !bytes.ContainsAny(b, "\x7f\u0080\u0081\u0082\u0083\u0084\u0085\u0086\u0087\u0088\u0089\u008a\u008b\u008c\u008d\u008e\u008f"+
		"\u0090\u0091\u0092\u0093\u0094\u0095\u0096\u0097\u0098\u0099\u009a\u009b\u009c\u009d\u009e\u009f") {
		return b
	}
	const hex = "0123456789abcdef"
	var out bytes.Buffer
	for _, r := range string(b) {
		if r >= 0x7f && r < 0xa0 {
			out.WriteString(`\u00`)
			out.WriteByte(hex[r>>4])
			out.WriteByte(hex[r&15])
			continue
		}
		out.WriteRune(r)
	}
	return out.Bytes()
}
