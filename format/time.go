package format

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// ParseTime reads a point in time as --since and --until take it: a date and
// time in RFC 3339 or a prefix of it, Unix seconds with an optional fraction,
// or a Go duration before now.
func ParseTime(now time.Time, s string) (time.Time, error) {
	if sec, frac, _ := strings.Cut(s, "."); sec != "" {
		n, err := strconv.ParseInt(sec, 10, 64)
		if err == nil {
			nano := int64(0)
			if frac != "" {
				digits := (frac + "000000000")[:9]
				if nano, err = strconv.ParseInt(digits, 10, 64); err != nil || len(frac) > 9 {
					return time.Time{}, errors.New("unable to interpret time value")
				}
			}
			return time.Unix(n, nano), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999 -0700 MST", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02T15Z07:00",
		"2006-01-02T15", "2006-01-02Z07:00", "2006-01-02",
	} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("unable to interpret time value")
}
