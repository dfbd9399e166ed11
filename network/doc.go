// Package network gives containers their networks: namespaces, addresses,
// published ports and names.
//
// # Vocabulary
//
// A network is a named record (podman's "network inspect" fields) that a driver
// turns into kernel objects when the first container joins it. An attachment is
// one interface of one container in one network. A lease is an address taken by
// a container. A mapping is a published port.
//
// # The picture
//
//	        host namespace                     container namespace
//	eth0 ── nftables table "hull" ── hull0 ── vethX │ eth0  10.88.0.2/16
//	          masquerade, DNAT       bridge         │ lo
//
// For a user the left half lives in a network namespace of his own, and in the
// place of the host's eth0 there is a device served by hull-net; everything
// else is the same code. See Options.NetNS.
//
// # Why it is fast
//
// A container start may pay little more for its network than the kernel takes.
// So this package speaks netlink itself: one message makes both ends of a veth
// pair, the far one born inside the container's namespace (moving a device
// there waits for a grace period of RCU), the near one already in its bridge;
// one more batch sets the addresses and routes. The packet filter's table is
// laid once; a container that publishes nothing does not touch it, and one that
// does adds elements to maps. Deleting an nftables chain, or sending again one
// that exists, makes the kernel wait for milliseconds, so that never happens.
//
// # What is where
//
//	CONFIG/NAME.json            a network's record, durable
//	RUN/BOOT/leases/NAME/ADDR   a lease: the container's ID and its veth
//	RUN/BOOT/containers/ID.json what Setup did for a container
//	RUN/BOOT/names/NAME/…       name records, read by the name server
//
// BOOT is the kernel's boot ID: what a reboot ended is in another directory,
// which the first command after the reboot removes. Within one boot, a lease
// whose veth is gone belongs to a dead container and may be taken over.
//
// # Published ports
//
// A port is claimed twice: by a socket bound on the host, which keeps other
// programs away and gives the error that names the holder, and by an element of
// the DNAT map, inserted exclusively. Packets from other machines, and from the
// host to its own outer addresses, are rewritten by the map and keep their
// source address. Connections to 127.0.0.1 and ::1 cannot be rewritten without
// route_localnet, which would open the host's loopback services to its
// neighbours; the bound socket receives those and Proxy carries them over. So a
// port that is published on a loopback address needs no packet filter at all,
// and nothing is exposed when somebody flushes the rules.
package network
