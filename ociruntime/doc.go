// Package ociruntime turns a container's configuration (config.json of the
// runtime specification) into a plan, and leads the life of an OCI bundle.
//
// # The idea
//
// Compile is a function: what the user wants (the configuration), what the
// host is like (Facts) and what the caller has made (CompileOptions) go in, a
// list of system calls comes out. It makes no call itself. Its phases are in
// compile.go, in the order in which they must happen and with the reason for
// each place; a phase is a file of its own and only appends steps.
//
// # In the child
//
// The steps run in a process that first joins cgroups and namespaces of
// others, then clones into the container's own. From then on paths of the host
// are used only until the root is left; what lies below the container's root,
// which its owner may have filled with links, is opened with openat2 and
// RESOLVE_IN_ROOT, mounted by descriptor, and never named twice.
package ociruntime
