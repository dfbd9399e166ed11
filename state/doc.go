// Package state keeps small records on disk so that they are whole after a
// kill or a power cut, and lets processes that know nothing of each other
// share them.
//
// There is no daemon and no database: the file system is the database. Four
// things make that safe, and everything in Hull that writes uses them:
//
//   - One way to write. WriteFile makes a temporary file in the same directory,
//     syncs it, renames it over the name and syncs the directory. A reader sees
//     the old bytes or the new ones, never a mixture, and needs no lock.
//   - One lock an object. A Lock is an flock on a file of its own, which is
//     never renamed; there is no fixed number of them and no lock above all.
//   - Names are claimed with link(2), which fails when the name is taken.
//   - What takes several steps is done under the object's lock, whose file is
//     there only while it is held. One that nobody holds (Lock.Found) is the
//     intent of a command that was killed: whoever comes next completes its
//     change, or takes it back.
//
// What a reboot ends anyway is written without syncing (durable false) into
// the run directory. A ProcessID names a process beyond the reuse of its
// number, and BootID the time between two boots.
package state
