package cgroup

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"hull/systemd"
)

// properties translates files of version 2 to what systemd calls them. What
// has no property is left out: it is written to its file only, and systemd,
// which knows nothing of it, leaves it alone.
func properties(list []setting) []systemd.Property {
	var out []systemd.Property
	limits := map[string][]systemd.DeviceLimit{}
	for _, s := range list {
		switch s.file {
		case "cpu.max":
			out = append(out, quotaProperties(s.value)...)
		case "cpuset.cpus", "cpuset.mems":
			if mask, ok := bitmask(s.value); ok {
				out = append(out, systemd.Property{Name: map[string]string{"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}[s.file], Value: mask})
			}
		case "io.weight":
			if w, ok := strings.CutPrefix(s.value, "default "); ok {
				if n, err := strconv.ParseUint(w, 10, 64); err == nil {
					out = append(out, systemd.Property{Name: "IOWeight", Value: n})
				}
			}
		case "io.max":
			addDeviceLimits(limits, s.value)
		default:
			name := numbers[s.file]
			if n, ok := number64(s.value); ok && name != "" {
				out = append(out, systemd.Property{Name: name, Value: n})
			}
		}
	}
	for _, name := range []string{"IOReadBandwidthMax", "IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax"} {
		if limits[name] != nil {
			out = append(out, systemd.Property{Name: name, Value: limits[name]})
		}
	}
	slices.SortStableFunc(out, func(a, b systemd.Property) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// numbers are the files whose property is the same number.
var numbers = map[string]string{
	"memory.max": "MemoryMax", "memory.high": "MemoryHigh", "memory.low": "MemoryLow", "memory.min": "MemoryMin",
	"memory.swap.max": "MemorySwapMax", "cpu.weight": "CPUWeight", "pids.max": "TasksMax",
}

// ioLimits are the words of io.max.
var ioLimits = map[string]string{
	"rbps": "IOReadBandwidthMax", "wbps": "IOWriteBandwidthMax", "riops": "IOReadIOPSMax", "wiops": "IOWriteIOPSMax",
}

// number64 reads a number, of which "max" is the largest.
func number64(text string) (uint64, bool) {
	if text == "max" {
		return math.MaxUint64, true
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

// quotaProperties are those of "QUOTA PERIOD". systemd counts microseconds a
// second, and writes whole percents: what is between is rounded up.
func quotaProperties(value string) []systemd.Property {
	q, p, _ := strings.Cut(value, " ")
	period, err := strconv.ParseUint(p, 10, 64)
	if p == "" {
		period, err = 100000, nil
	}
	quota, ok := number64(q)
	if err != nil || !ok || period == 0 {
		return nil
	}
	if quota != math.MaxUint64 {
		perSecond := quota * 1000000 / period
		quota = (perSecond + 9999) / 10000 * 10000
	}
	out := []systemd.Property{{Name: "CPUQuotaPerSecUSec", Value: quota}}
	if period != 100000 {
		out = append(out, systemd.Property{Name: "CPUQuotaPeriodUSec", Value: period})
	}
	return out
}

// bitmask makes "0-2,8" the bytes of a set, the lowest first.
func bitmask(list string) ([]byte, bool) {
	var out []byte
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		a, b, isRange := strings.Cut(part, "-")
		if !isRange {
			b = a
		}
		low, err1 := strconv.ParseUint(a, 10, 16)
		high, err2 := strconv.ParseUint(b, 10, 16)
		if err1 != nil || err2 != nil || high < low {
			return nil, false
		}
		for n := low; n <= high; n++ {
			for int(n/8) >= len(out) {
				out = append(out, 0)
			}
			out[n/8] |= 1 << (n % 8)
		}
	}
	return out, len(out) > 0
}

// addDeviceLimits adds those of a line of io.max: "8:0 rbps=1 wiops=max".
func addDeviceLimits(to map[string][]systemd.DeviceLimit, value string) {
	words := strings.Fields(value)
	if len(words) < 2 {
		return
	}
	for _, w := range words[1:] {
		key, v, _ := strings.Cut(w, "=")
		n, ok := number64(v)
		if name := ioLimits[key]; name != "" && ok {
			to[name] = append(to[name], systemd.DeviceLimit{Path: fmt.Sprintf("/dev/block/%s", words[0]), Limit: n})
		}
	}
}
