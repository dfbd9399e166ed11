package state

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

var (
	errSyntax         = errors.New("not a JSON text")
	jsonUnmarshaler   = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler   = reflect.TypeFor[encoding.TextUnmarshaler]()
	errNotForRecords  = errors.New("not a pointer to a value")
	errNumberTooGreat = errors.New("the number is out of range")
)

// Unmarshal reads JSON into what v points to. Field names are matched exactly;
// unknown ones are passed over. See Marshal.
func Unmarshal(data []byte, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return errNotForRecords
	}
	// What follows relies on it: it looks for ends, not for mistakes.
	if !json.Valid(data) {
		return errSyntax
	}
	d := decoder{data: data}
	return d.value(p.Elem())
}

// A decoder reads a text that is known to be valid.
type decoder struct {
	data []byte
	at   int
}

// next is the first byte of what comes, which is not consumed.
func (d *decoder) next() byte {
	for {
		switch c := d.data[d.at]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			d.at++
		default:
			return c
		}
	}
}

// raw consumes one value and returns its text.
func (d *decoder) raw() []byte {
	c := d.next()
	begin := d.at
	switch c {
	case '"':
		d.str()
	case '{', '[':
		for depth := 0; ; {
			switch d.data[d.at] {
			case '"':
				d.str()
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			d.at++
			if depth == 0 {
				break
			}
		}
	default:
		for d.at < len(d.data) && strings.IndexByte(" \t\r\n,:]}", d.data[d.at]) < 0 {
			d.at++
		}
	}
	return d.data[begin:d.at]
}

// str consumes a string and returns its text with the quotes.
func (d *decoder) str() []byte {
	begin := d.at
	for d.at++; d.data[d.at] != '"'; d.at++ {
		if d.data[d.at] == '\\' {
			d.at++
		}
	}
	d.at++
	return d.data[begin:d.at]
}

func unquote(text []byte) (string, error) {
	inner := text[1 : len(text)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner), nil
	}
	var s string
	err := json.Unmarshal(text, &s)
	return s, err
}

// other reads a value whose type has its own way to be written.
func other(text []byte, into any) error {
	switch x := into.(type) {
	case *time.Time:
		return x.UnmarshalJSON(text)
	case json.Unmarshaler:
	case encoding.TextUnmarshaler:
		if text[0] == '"' {
			s, err := unquote(text)
			if err != nil {
				return err
			}
			return x.UnmarshalText([]byte(s))
		}
	}
	return json.Unmarshal(text, into)
}

func (d *decoder) value(v reflect.Value) error {
	c := d.next()
	t := v.Type()
	if t.Kind() == reflect.Struct || t.NumMethod() > 0 || t.Name() != "" {
		if p := reflect.PointerTo(t); p.Implements(jsonUnmarshaler) || p.Implements(textUnmarshaler) {
			return other(d.raw(), v.Addr().Interface())
		}
	}
	if c == 'n' {
		d.raw()
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
			v.SetZero()
		}
		return nil
	}
	switch k := t.Kind(); {
	case k == reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(t.Elem()))
		}
		return d.value(v.Elem())
	case k == reflect.Struct && c == '{':
		return d.fields(v)
	case k == reflect.Slice && c == '[' && t.Elem().Kind() != reflect.Uint8:
		return d.slice(v)
	case k == reflect.String && c == '"':
		s, err := unquote(d.str())
		v.SetString(s)
		return err
	case k == reflect.Bool && (c == 't' || c == 'f'):
		d.raw()
		v.SetBool(c == 't')
		return nil
	case v.CanInt() && k != reflect.Bool:
		n, err := strconv.ParseInt(string(d.raw()), 10, 64)
		if err != nil || v.OverflowInt(n) {
			return errNumberTooGreat
		}
		v.SetInt(n)
		return nil
	case v.CanUint():
		n, err := strconv.ParseUint(string(d.raw()), 10, 64)
		if err != nil || v.OverflowUint(n) {
			return errNumberTooGreat
		}
		v.SetUint(n)
		return nil
	}
	return json.Unmarshal(d.raw(), v.Addr().Interface())
}

func (d *decoder) slice(v reflect.Value) error {
	d.at++
	v.Set(reflect.MakeSlice(v.Type(), 0, 4))
	for i := 0; d.next() != ']'; i++ {
		v.Grow(1)
		v.SetLen(i + 1)
		v.Index(i).SetZero()
		if err := d.value(v.Index(i)); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	d.at++
	return nil
}

func (d *decoder) fields(v reflect.Value) error {
	d.at++
	for d.next() != '}' {
		name, err := unquote(d.str())
		if err != nil {
			return err
		}
		f := field(v, name)
		if !f.IsValid() {
			d.raw()
			continue
		}
		if err := d.value(f); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	d.at++
	return nil
}

// field is the one that a name means; the zero Value when none does.
func field(v reflect.Value, name string) reflect.Value {
	t := v.Type()
	if f, ok := t.FieldByName(name); ok && f.IsExported() {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == "" {
			return v.FieldByIndex(f.Index)
		}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag != "" && tag == name && f.IsExported():
			return v.Field(i)
		case f.Anonymous && tag == "" && f.Type.Kind() == reflect.Struct:
			if f := field(v.Field(i), name); f.IsValid() {
				return f
			}
		}
	}
	return reflect.Value{}
}
