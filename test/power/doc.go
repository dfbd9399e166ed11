// Package power cuts the power, in tests: what hull's commands have said that
// they did must be there afterwards, and what they had not said must be absent
// or whole.
//
//	blocks     a disk whose every write and flush is recorded: a loop device over
//	           a file of our own FUSE file system, with ext4 or xfs upon it. A cut
//	           is a flush bound and a random part of what was written after it.
//	files      a file system, FUSE again, that keeps in memory what was not
//	           synced. A cut leaves of the names what the last sync of anything
//	           left, as a journal does, and of each file the bytes of its own last
//	           sync; of the rest nothing, all, or a random part.
//
// The workload is a list of commands on a store; after each, on a first run, the
// store is looked at. On a second run the disk records. A cut between the
// commands n and n+1 must show each object as it was after n or after n+1.
package power
