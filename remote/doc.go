// Package remote knows other hosts on which this program is called by ssh.
//
// A destination is a host and how to log in there; a connection is one with a
// name; a farm is a list of connections, on which one build is done. Both are
// kept in podman's files: what an administrator writes in containers.conf
// ([engine.service_destinations], [farms]) is read, and what the commands
// change is in podman-connections.json beside the user's containers.conf.
//
// There is no service at the other end. Where podman's URI names a socket,
// here the program itself is called, so a path in a URI is kept and not used,
// and a URI without ssh is one that podman alone can reach.
package remote
