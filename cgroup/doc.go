// Package cgroup makes, limits, freezes, reads and removes the control groups
// of containers, version 2 and version 1 as the host has them.
//
// # Vocabulary
//
// A hierarchy is one mounted tree: in version 2 the only one, in version 1
// one a controller or a few. A group is one path in all the hierarchies that
// matter for it. A limit is a file: the whole package is making directories
// and writing files, in an order that the kernel accepts.
//
// # What costs
//
// Each start of a container pays for its group. So a group is made only in
// the hierarchies that something is set in or that freezing, killing and
// counting need, and only files with a value are written.
//
// # Hybrid hosts
//
// Where version 1 has the controllers, version 2's tree, if it is mounted as
// well, is left alone. A controller that is in neither is an error when a
// limit needs it; without rights (Options.Rootless) it is a warning.
package cgroup
