package format

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
)

// YAML writes v by its JSON names, in their order, as info shows things to
// people: block style, strings quoted where YAML would read something else.
func YAML(w io.Writer, v any) error {
	data, err := encode(v, "")
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var b strings.Builder
	if err := yamlValue(&b, d, 0, false); err != nil {
		return err
	}
	_, err = io.WriteString(w, strings.TrimPrefix(b.String(), "\n"))
	return err
}

// yamlValue writes the next value of d; inItem says that a list's dash stands before it.
func yamlValue(b *strings.Builder, d *json.Decoder, depth int, inItem bool) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	switch t {
	case json.Delim('{'):
		return yamlObject(b, d, depth, inItem)
	case json.Delim('['):
		if !d.More() {
			b.WriteString(" []\n")
		} else {
			b.WriteString("\n")
		}
		for d.More() {
			b.WriteString(strings.Repeat("  ", depth) + "-")
			if err := yamlValue(b, d, depth+1, true); err != nil {
				return err
			}
		}
		_, err = d.Token()
		return err
	}
	b.WriteString(" " + yamlScalar(t) + "\n")
	return nil
}

func yamlObject(b *strings.Builder, d *json.Decoder, depth int, inItem bool) error {
	if !d.More() {
		b.WriteString(" {}\n")
	} else if !inItem {
		b.WriteString("\n")
	}
	for first := true; d.More(); first = false {
		key, err := d.Token()
		if err != nil {
			return err
		}
		indent := strings.Repeat("  ", depth)
		if inItem && first {
			indent = " "
		}
		b.WriteString(indent + yamlScalar(key) + ":")
		if err := yamlValue(b, d, depth+1, false); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// yamlScalar quotes a string that YAML would not read as that string.
func yamlScalar(t json.Token) string {
	switch v := t.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return v.String()
	case string:
		plain := v != "" && strings.TrimSpace(v) == v && !strings.ContainsAny(v, "\n\r\t\"'#&*!|>%@`{}[],\\") && !strings.Contains(v, ": ") &&
			!strings.HasSuffix(v, ":") && !strings.ContainsAny(v[:1], "-?:~") && !strings.ContainsAny(v, "\x7f")
		switch strings.ToLower(v) {
		case "true", "false", "null", "yes", "no", "on", "off", "~":
			plain = false
		}
		if _, err := strconv.ParseFloat(v, 64); err == nil {
			plain = false
		}
		if plain {
			return v
		}
		return strconv.Quote(v)
	}
	return ""
}
