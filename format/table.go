package format

import (
	"bytes"
	"io"
	"strings"
	"text/tabwriter"

	"hull/command"
)

// newTabs is a writer with podman's column widths: at least twelve wide, two
// spaces between.
func newTabs(w io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(w, 12, 2, 2, ' ', 0)
}

// Table writes rows below header; a nil header writes the rows alone. Cells
// are made printable.
func Table(w io.Writer, header []string, rows [][]string) error {
	var b bytes.Buffer // the writer of tabs writes each cell by itself
	tw := newTabs(&b)
	line := func(cells []string) error {
		_, err := io.WriteString(tw, strings.Join(cells, "\t")+"\n")
		return err
	}
	if header != nil {
		if err := line(header); err != nil {
			return err
		}
	}
	for _, row := range rows {
		clean := make([]string, len(row))
		for i, c := range row {
			clean[i] = Cell(c)
		}
		if err := line(clean); err != nil {
			return err
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Cell is s on one line, in one column, without control bytes.
func Cell(s string) string {
	if strings.ContainsAny(s, "\t\n") {
		s = strings.NewReplacer("\t", `\t`, "\n", `\n`).Replace(s)
	}
	return command.Printable(s)
}
