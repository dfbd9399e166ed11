package clifull

import (
	"fmt"
	"strconv"
	"strings"

	"hull/build"
	"hull/engine"
)

// parseConfidential reads --cw: KEY=VALUE[,KEY=VALUE...].
func parseConfidential(spec string) (*build.Confidential, error) {
	c := &build.Confidential{Type: build.ConfidentialSNP}
	for word := range strings.SplitSeq(spec, ",") {
		k, v, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fmt.Errorf("--cw %q is not KEY=VALUE", word)
		}
		var err error
		switch k {
		case "type":
			c.Type = strings.ToLower(v)
		case "attestation_url":
			c.AttestationURL = v
		case "passphrase":
			c.Passphrase = v
		case "workload_id":
			c.WorkloadID = v
		case "slop":
			c.Slop = v
		case "firmware_library":
			c.Firmware = v
		case "ignore_attestation_errors":
			c.IgnoreAttestation, err = strconv.ParseBool(v)
		case "cpus":
			c.CPUs, err = atLeastOne(v)
		case "memory":
			c.Memory, err = megabytes(v)
		default:
			err = fmt.Errorf("there are type, attestation_url, passphrase, workload_id, slop, firmware_library, ignore_attestation_errors, cpus and memory")
		}
		if err != nil {
			return nil, fmt.Errorf("--cw %s: %w", k, err)
		}
	}
	return c, c.Check()
}

func atLeastOne(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err == nil && n < 1 {
		err = fmt.Errorf("%d is too few", n)
	}
	return n, err
}

// megabytes reads a number of MiB, or a size with its unit.
func megabytes(text string) (int, error) {
	if n, err := strconv.Atoi(text); err == nil {
		return atLeastOne(strconv.Itoa(n))
	}
	n, err := engine.ParseSize(text)
	if err != nil {
		return 0, err
	}
	return atLeastOne(strconv.FormatInt(n>>20, 10))
}
