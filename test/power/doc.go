// Package power cuts the power, in tests: what hull's commands have said that
// they did must be there afterwards, and what they had not said must be absent
// or whole.
//
//	blocks     a disk whose every write and flush is recorded: a loop device over
//	           a file of our own FUSE file system, with ext4 or xfs upon it. A cut
//	           is a flush bound and a random part of what was written after it.
//
// The workload is a list of commands on a store; after each, on a first run, the
// store is looked at. On a second run the disk records. A cut between the
// commands n and n+1 must show each object as it was after n or after n+1.
package power
