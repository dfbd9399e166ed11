// Package usernet is the outside of a user's containers: a TCP/IP stack in a
// process, for those who may not change the host's network.
//
// # Theory of operation
//
//	user's namespace                       host's namespace
//	container ── hull0 ── hull-tap0 │ frames │ stack ── sockets ── the world
//	                      10.0.2.100          10.0.2.2
//
// Hull-net starts in the host's network namespace. It makes the device inside
// the user's (network.OpenUserDevice), gives up all capabilities by executing
// itself once more, and then is the machine at the device's other end: each
// connection that comes out of the device is accepted by the stack and carried
// on over a socket of the host's, datagrams and echo requests likewise. One
// process serves all containers of a user. It ends when none is left.
//
// # What is reached
//
// Everything that the user himself reaches, except the host's loopback
// addresses: whatever name they are given, connections to them are refused
// (see allowed). Port 53 of 10.0.2.3 is the host's resolvers, the first that
// answers. Ports published by containers are not this package's work, but
// network.Proxy's.
//
// Echo requests need the host's net.ipv4.ping_group_range to have the user's
// group, as distributions set it; without, they stay unanswered.
package usernet
