package kube

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseQuantity is the number that a quantity of Kubernetes means: 64Mi, 0.5,
// 250m, 1e3.
func ParseQuantity(s string) (float64, error) {
	number := strings.TrimRight(s, "numkKMGTPEi")
	suffix := s[len(number):]
	if suffix == "E" || suffix == "" && strings.ContainsAny(number, "eE") {
		suffix, number = "", s
		if strings.HasSuffix(s, "E") {
			suffix, number = "E", s[:len(s)-1]
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	scale, ok := map[string]float64{"": 1, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
		"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60}[suffix]
	if err != nil || !ok || v < 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0, fmt.Errorf("%q is no quantity such as 64Mi, 0.5 or 250m", s)
	}
	return v * scale, nil
}
