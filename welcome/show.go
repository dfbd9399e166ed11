package welcome

import (
	"io"
	"strings"
)

const greeting = "Welcome aboard. This is a container, run by Hull without a daemon."

// Text writes the sections for a terminal.
func Text(w io.Writer, sections []Section) error {
	var b strings.Builder
	b.WriteString(greeting + "\n")
	width := 0
	for _, s := range sections {
		for _, l := range s.Lines {
			width = max(width, len(l.Name))
		}
	}
	for _, s := range sections {
		b.WriteString("\n" + s.Title + "\n  " + s.Why + "\n")
		for _, l := range s.Lines {
			b.WriteString("    " + l.Name + strings.Repeat(" ", width-len(l.Name)+2) + printable(l.Value) + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printable replaces control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

const style = `body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#123;background:#f6f9fc}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin:1.6rem 0 0}p{margin:0 0 .4rem;color:#567}
table{border-collapse:collapse;width:100%;background:#fff}td{padding:.2rem .6rem;border-top:1px solid #dde5ee;vertical-align:top}
td:first-child{white-space:nowrap;color:#567;width:12rem}td+td{font-family:ui-monospace,monospace;font-size:.9rem;overflow-wrap:anywhere}`

// Page is the sections as one HTML page that asks for nothing else.
func Page(sections []Section) string {
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace
	var b strings.Builder
	b.WriteString("<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>hull/welcome</title><style>" +
		style + "</style><h1>" + escape(greeting) + "</h1>")
	for _, s := range sections {
		b.WriteString("<h2>" + escape(s.Title) + "</h2><p>" + escape(s.Why) + "</p><table>")
		for _, l := range s.Lines {
			b.WriteString("<tr><td>" + escape(l.Name) + "<td>" + escape(printable(l.Value)))
		}
		b.WriteString("</table>")
	}
	b.WriteString("</html>\n")
	return b.String()
}
