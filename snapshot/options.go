package snapshot

import (
	"fmt"
	"strconv"
	"strings"
)

// SetStorageOptions sets what the program's --storage-opt and storage.conf say:
// KEY=VALUE, or DRIVER.KEY=VALUE.
func (o *Options) SetStorageOptions(opts []string) error {
	for _, opt := range opts {
		key, value, ok := strings.Cut(opt, "=")
		if i := strings.LastIndexByte(key, '.'); i >= 0 {
			key = key[i+1:]
		}
		var err error
		switch {
		case !ok:
			err = fmt.Errorf("it is not KEY=VALUE")
		case key == "mountopt":
			o.MountOptions = append(o.MountOptions, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
		case key == "ignore_chown_errors":
			o.IgnoreChown, err = strconv.ParseBool(value)
		case key == "maxlayersize":
			o.MaxLayerSize, err = parseBytes(value)
		case key == "maxlayerfiles":
			o.MaxLayerFiles, err = strconv.ParseInt(value, 10, 64)
		case key == "imagestore", key == "additionalimagestore":
			// Whoever opens the store knows them: Also.
		default:
			return &hintError{fmt.Errorf("storage option %q is not known", opt), "there are mountopt, ignore_chown_errors, maxlayersize, maxlayerfiles and imagestore"}
		}
		if err != nil {
			return fmt.Errorf("storage option %q: %w", opt, err)
		}
	}
	return nil
}

// parseBytes reads a number with a unit of 1024: 10g.
func parseBytes(s string) (int64, error) {
	shift := 0
	if s != "" {
		shift = 10 * (1 + strings.IndexByte("kmgt", s[len(s)-1]|0x20))
	}
	if shift > 0 {
		s = s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > 1<<62>>shift || n < -1 {
		return 0, fmt.Errorf("%q is no size", s)
	}
	return n << shift, nil
}
