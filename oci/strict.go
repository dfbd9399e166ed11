package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxDepth is more nesting than any specification has.
const maxDepth = 64

// checkKeys refuses JSON that two readers may understand differently: a key
// that occurs twice in an object, also in other letter case (encoding/json
// folds it), and anything after the first value (REG-03, CVE-2021-41190).
// Labels and annotations may differ in case alone; there only the same key
// twice is refused.
func checkKeys(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := checkValue(d, "", 0); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("data after the JSON value")
	}
	return nil
}

func checkValue(d *json.Decoder, key string, depth int) error {
	if depth > maxDepth {
		return errors.New("JSON is nested too deeply")
	}
	t, err := d.Token()
	if err != nil {
		return unexpectedEnd(err)
	}
	switch t {
	case json.Delim('['):
		for d.More() {
			if err := checkValue(d, "", depth+1); err != nil {
				return err
			}
		}
	case json.Delim('{'):
		if err := checkObject(d, key, depth); err != nil {
			return err
		}
	default:
		return nil
	}
	_, err = d.Token()
	return unexpectedEnd(err)
}

func checkObject(d *json.Decoder, key string, depth int) error {
	fold := strings.ToLower
	switch strings.ToLower(key) {
	case "annotations", "labels", "volumes", "exposedports":
		fold = func(s string) string { return s }
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return unexpectedEnd(err)
		}
		name, ok := t.(string)
		if !ok {
			return errors.New("object key is not a string")
		}
		if seen[fold(name)] {
			return fmt.Errorf("key %q occurs twice", clip(name))
		}
		seen[fold(name)] = true
		if err := checkValue(d, name, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func unexpectedEnd(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
