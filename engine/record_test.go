package engine

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"hull/state"
)

// fill sets every field that v has, lists with one element.
func fill(v reflect.Value, depth int) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(1e9, 1).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				fill(f, depth)
			}
		}
	case reflect.Pointer:
		if depth < 12 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), depth+1)
		}
	case reflect.Slice:
		if depth < 12 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), depth+1)
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	}
	if v.CanInt() {
		v.SetInt(7)
	} else if v.CanUint() {
		v.SetUint(7)
	}
}

// TestRecordsAreOrdinaryJSON: records and states lose nothing on the way to
// the disk and back, and others can read them.
func TestRecordsAreOrdinaryJSON(t *testing.T) {
	for _, v := range []any{&record{}, &runState{}, &Event{}} {
		fill(reflect.ValueOf(v).Elem(), 0)
		text, err := state.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := reflect.New(reflect.TypeOf(v).Elem()).Interface(), reflect.New(reflect.TypeOf(v).Elem()).Interface()
		if err := state.Unmarshal(text, ours); err != nil {
			t.Fatalf("%T: %v", v, err)
		}
		if err := json.Unmarshal(text, theirs); err != nil {
			t.Fatalf("%T: %v", v, err)
		}
		again, err := json.Marshal(theirs)
		if err != nil {
			t.Fatal(err)
		}
		mine, err := json.Marshal(ours)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if string(again) != string(want) || string(mine) != string(want) {
			t.Errorf("%T: written and read again it is\n%s\nby encoding/json\n%s\nwant\n%s", v, mine, again, want)
		}
	}
}
