// Package systemd asks a service manager, the system's or a user's, for units
// that hold containers: scopes, and slices for pods.
//
// It speaks D-Bus over the manager's own socket, so that neither a bus nor a
// library is needed: six methods and one signal are all that there is. The
// answer to a request is a job; a unit is there when its job has ended.
//
// A manager is asked once for all units that a start needs, since each request
// takes it a few milliseconds and it does them side by side.
package systemd
