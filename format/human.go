package format

import (
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// Ago is how long before now t was: "2 minutes ago". The zero time and those
// before 1970 are "".
func Ago(now, t time.Time) string {
	if t.Unix() < 0 || t.IsZero() {
		return ""
	}
	return Duration(now.Sub(t)) + " ago"
}

// Duration is d in one unit: "2 minutes".
func Duration(d time.Duration) string { return units.HumanDuration(max(d, 0)) }

// Size is n bytes in decimal units with up to four digits: "2.131MB".
func Size(n int64) string { return units.HumanSize(float64(n)) }

// ShortSize is n bytes with up to three digits: "2.13MB".
func ShortSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// SpacedSize is ShortSize with a space before the unit: "2.13 MB", as podman
// images shows it.
func SpacedSize(n int64) string {
	s := ShortSize(n)
	i := strings.LastIndexAny(s, "0123456789") + 1
	return s[:i] + " " + s[i:]
}

// Percent is a share with two decimals: "1.25%".
func Percent(p float64) string { return fmt.Sprintf("%.2f%%", p) }

// Truncate cuts s to n runes and marks that it did.
func Truncate(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n]) + "..."
}

// ShortID is the first twelve digits of an ID or digest, without the
// algorithm's name.
func ShortID(id string) string {
	if _, hex, ok := strings.Cut(id, ":"); ok {
		id = hex
	}
	if len(id) > 12 {
		id = id[:12]
	}
	return id
}
