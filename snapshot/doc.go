// Package snapshot keeps file systems in layers: committed ones, which never
// change and are named by their chain ID, and active ones, which are written
// to and are named by whoever prepared them.
//
//	DIR/l/HEX/d        a layer's files: what it changes above its parent
//	DIR/l/HEX/chain    its chain ID; HEX are the first 16 digits of it
//	DIR/l/HEX/lower    the HEX of it and of all below, the top first
//	DIR/a/NAME/u w     an active snapshot's files, and overlay's work directory
//	DIR/a/NAME/lower   what it stands on
//	DIR/t/…            what is being made or removed: gone with its owner
//
// Names are short because mount(2) takes a page of options, in which 127
// layers must have room. A layer gets its name by rename when it is whole; a
// snapshot is removed by renaming it away first. So what has a name is whole,
// and what was cut off is below t, from where Collect takes it.
package snapshot
