// Package snapshot keeps file systems in layers: committed ones, which never
// change and are named by their chain ID, and active ones, which are written
// to and are named by whoever prepared them.
//
//	DIR/driver           the name of the driver; without it, overlay
//	DIR/l/HEX/d          a layer's files: what it changes above its parent, or all
//	DIR/l/HEX/chain      its chain ID; HEX are the first 16 digits of it
//	DIR/l/HEX/lower      the HEX of it and of all below, the top first
//	DIR/l/HEX/unsynced   a mark: the disk may not have the files yet
//	DIR/a/NAME/u w       an active snapshot's files, and overlay's work directory
//	DIR/a/NAME/base      a link whose text is the layer it stands on
//	DIR/t/…              what is being made or removed: gone with its owner
//
// Names are short because mount(2) takes a page of options, in which 127
// layers must have room. A layer gets its name by rename when its directory is
// complete; a snapshot is removed by renaming it away first. So what was cut off
// by a kill is below t, from where Collect takes it, and what a power cut may
// have damaged is marked.
package snapshot
