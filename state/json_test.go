package state

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

type inner struct {
	A int    `json:"a,omitempty"`
	B string `json:"b,omitempty"`
}

type Embedded struct {
	Deep  []string `json:",omitempty"`
	Lower *inner   `json:"lower,omitempty"`
}

type everything struct {
	Version int
	Name    string `json:",omitempty"`
	Created time.Time
	Ended   time.Time         `json:",omitzero"`
	Addr    netip.Addr        `json:",omitzero"`
	Labels  map[string]string `json:",omitempty"`
	Inner   inner             `json:"inner,omitzero"`
	List    []inner           `json:",omitempty"`
	Any     any               `json:",omitempty"`
	Bytes   []byte            `json:",omitempty"`
	Small   int8              `json:",omitempty"`
	Big     uint64            `json:",omitempty"`
	Float   float64           `json:",omitempty"`
	Flag    *bool             `json:",omitempty"`
	Array   [2]int            `json:",omitzero"`
	Hidden  string            `json:"-"`
	Embedded
	unseen int
}

func full() everything {
	yes := true
	return everything{
		Version: 3, Name: "a \"quoted\" näme\n<&>", Created: time.Unix(1, 2).UTC(), Ended: time.Unix(3, 4).UTC(),
		Addr: netip.MustParseAddr("fe80::1"), Labels: map[string]string{"a": "b", "": "x"}, Inner: inner{1, "x"},
		List: []inner{{}, {2, ""}}, Any: map[string]any{"x": []any{"y", nil}}, Bytes: []byte{1, 2, 255}, Small: -128, Big: 1<<64 - 1,
		Float: 1.5e-9, Flag: &yes, Array: [2]int{1, 2}, Hidden: "secret", Embedded: Embedded{Deep: []string{"d", ""}, Lower: &inner{B: "low"}},
	}
}

// TestJSONAsTheStandardLibrarys: what one writes the other reads, both ways.
func TestJSONAsTheStandardLibrarys(t *testing.T) {
	for _, x := range []everything{{}, full(), {List: []inner{}, Embedded: Embedded{Lower: &inner{}}}} {
		ours, err := Marshal(&x)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := json.Marshal(&x)
		if err != nil {
			t.Fatal(err)
		}
		var a, b, c everything
		if err := json.Unmarshal(ours, &a); err != nil {
			t.Fatalf("%s: %v", ours, err)
		}
		if err := json.Unmarshal(theirs, &b); err != nil {
			t.Fatal(err)
		}
		if err := Unmarshal(theirs, &c); err != nil {
			t.Fatalf("%s: %v", theirs, err)
		}
		if !reflect.DeepEqual(a, b) {
			t.Errorf("Marshal\n%s\nis read as %+v\nencoding/json's as %+v", ours, a, b)
		}
		if !reflect.DeepEqual(c, b) {
			t.Errorf("Unmarshal reads %s as\n%+v\nwant\n%+v", theirs, c, b)
		}
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	for _, text := range []string{"", "{", `{"Version":"x"}`, `{"Version":1.5}`, `{"Small":128}`, `{"Big":-1}`, `{"inner":[]}`, `{"List":{}}`, `{"List":[1]}`, `{"Name":7}`, `{"Flag":"x"}`, "[]", "{} {}"} {
		if err := Unmarshal([]byte(text), new(everything)); err == nil {
			t.Errorf("%q is read", text)
		}
	}
	if Unmarshal([]byte("{}"), everything{}) == nil {
		t.Error("a value that is no pointer is taken")
	}
}

// FuzzUnmarshal: it reads what encoding/json reads, as that does, but that
// names of fields are matched to the letter.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"1":-1,"2":"x\u00e9\ud800","3":[null,1],"4":{"a":"]"},"5":7,"6":true,"7":["a",""],"unknown":[{"\"":"]"},"}"]}`))
	f.Add([]byte(` { "5" : null , "1":1e3, "3" : [ ] } `))
	f.Fuzz(func(t *testing.T, data []byte) {
		var ours, theirs exact
		err := Unmarshal(data, &ours)
		terr := json.Unmarshal(data, &theirs)
		if (err == nil) != (terr == nil) {
			t.Fatalf("%q: %v, but encoding/json: %v", data, err, terr)
		}
		if err == nil && !reflect.DeepEqual(ours, theirs) {
			t.Fatalf("%q: %+v, but encoding/json: %+v", data, ours, theirs)
		}
	})
}

// exact has fields whose names differ in no letter's case alone and are read
// whole, so that both readers mean the same by a name that comes twice.
type exact struct {
	N int      `json:"1"`
	S string   `json:"2"`
	L []int8   `json:"3"`
	M any      `json:"4"`
	P *uint32  `json:"5"`
	B bool     `json:"6"`
	T []string `json:"7"`
}
