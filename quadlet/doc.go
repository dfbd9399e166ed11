// Package quadlet translates descriptions of containers, pods, volumes,
// networks, images and builds, written as systemd units, to services that run
// hull.
//
//	a.container ─┐
//	a.container.d/*.conf ─┤ search.go, unit.go      kinds.go, container.go …
//	data.volume ─┘  →  a set of units  ──────────→  a.service, data-volume.service
//	                                                     │ generate.go
//	                                     a generator's directory, links of [Install]
//
// A unit file is sections of keys. Sections that systemd knows go through as
// they are. The section that is the file's own, [Container] in a.container, has
// a table (kinds.go): which key becomes which flag, in the order of the command
// line. The keys that exist are the rows of that table, so there is no second
// list of them.
//
// Nothing here runs a container or asks systemd: the package reads files and
// writes files. Specifiers (%i) and variables ($HOME) stay as they are, because
// systemd expands them in the command line when it starts the service.
//
// A file with an error gives no service; the others do. An error names the
// file, the line and the key.
package quadlet
