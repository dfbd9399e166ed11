// Package format is how a list or an object is shown: tables, Go templates
// (--format), JSON, and times and sizes as people say them.
//
// # The three ways
//
//	no --format        Table: fixed columns, podman's widths
//	--format json      JSON; also {{json .}}
//	--format TEMPLATE  Template: once for each row; "table TEMPLATE" puts the
//	                   names of the columns above
//
// A template sees a row: a struct whose fields and methods are the names that
// podman documents (.ID, .Names, .CreatedAt). The header of a "table" template
// is the template itself, executed on the names of its fields, so that it has
// as many columns as the rows, whatever the user writes.
//
// # Text that others chose
//
// Names, labels and commands come from images and other users. Cell and
// Template escape control bytes in them, so that listing containers cannot
// drive the terminal (LOG-03); JSON does so by its own rules.
//
// text/template costs a program about 0.1 ms at its start and 0.7 MB; this
// package is the only one that imports it, and only front doors import this.
package format
