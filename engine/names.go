package engine

import (
	"crypto/rand"
	"encoding/hex"

	"golang.org/x/sys/unix"
)

// random fills b, of at most 256 bytes, from the kernel. crypto/rand would set up
// a generator of its own for a start's two calls.
func random(b []byte) {
	if n, err := unix.Getrandom(b, 0); err != nil || n != len(b) {
		rand.Read(b)
	}
}

// newID is 256 random bits in hex.
func newID() string {
	var b [32]byte
	random(b[:])
	return hex.EncodeToString(b[:])
}

// randomName is an adjective of the sea and a part of a ship.
func randomName() string {
	var b [2]byte
	random(b[:])
	return adjectives[int(b[0])%len(adjectives)] + "_" + nouns[int(b[1])%len(nouns)]
}

var adjectives = [...]string{
	"able", "ample", "azure", "bold", "brave", "breezy", "bright", "brisk", "broad", "calm", "clear", "coastal",
	"cool", "coral", "crisp", "daring", "deep", "distant", "eager", "early", "eastern", "even", "fair", "fast",
	"fleet", "floating", "foaming", "free", "fresh", "gentle", "gliding", "golden", "grand", "hardy", "hidden",
	"high", "idle", "inner", "jolly", "keen", "kind", "lasting", "light", "little", "lively", "long", "lucky",
	"lunar", "mellow", "merry", "mild", "misty", "modest", "narrow", "neat", "nimble", "noble", "northern",
	"open", "outer", "patient", "plain", "proud", "quick", "quiet", "rapid", "ready", "rolling", "rosy", "rough",
	"round", "safe", "salty", "sandy", "secure", "serene", "sharp", "silent", "silver", "sleek", "slow", "smooth",
	"snug", "solid", "southern", "stable", "starry", "steady", "still", "stout", "strong", "sunny", "sure", "swift",
	"tall", "tidal", "tidy", "tiny", "tranquil", "true", "trusty", "upright", "vast", "warm", "western", "wide",
	"windy", "wise", "young",
}

var nouns = [...]string{
	"anchor", "ballast", "barge", "bay", "beacon", "beam", "bell", "berth", "boat", "boom", "bow", "brig",
	"bulwark", "buoy", "cabin", "canal", "canoe", "cape", "capstan", "cargo", "caulk", "chart", "clipper", "coast",
	"compass", "course", "cove", "crane", "crate", "current", "cutter", "davit", "deck", "delta", "dock", "dory",
	"drift", "ebb", "estuary", "fathom", "ferry", "fjord", "flag", "flotilla", "fluke", "frigate", "galley",
	"gangway", "gulf", "halyard", "harbor", "hatch", "hawser", "heading", "helm", "hold", "hoist", "inlet", "island",
	"jetty", "jib", "kayak", "keel", "ketch", "knot", "lagoon", "lantern", "launch", "ledger", "lighthouse", "line",
	"lock", "locker", "log", "lugger", "mainsail", "mast", "mooring", "oar", "outrigger", "packet", "paddle",
	"pennant", "pier", "pilot", "planking", "port", "porthole", "prow", "pulley", "quay", "raft", "rib", "rigging",
	"rope", "rudder", "sail", "schooner", "sextant", "shackle", "ship", "shore", "skiff", "sloop", "sonar",
	"sounding", "spar", "stern", "strait", "tackle", "tide", "tiller", "timber", "topsail", "trawler", "tug", "voyage",
	"wake", "wave", "wharf", "winch", "windlass", "yacht", "yard", "yawl",
}
