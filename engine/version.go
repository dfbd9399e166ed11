package engine

// buildVersion is set by the linker.
var buildVersion = "unknown"

// Version is what this program was built from.
func Version() string { return buildVersion }
