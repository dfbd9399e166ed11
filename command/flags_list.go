package command

import (
	"encoding/csv"
	"strings"
)

// StringSliceVar declares a flag that may be given several times, and each
// time with several values between commas. It is pflag's, but for the sixty
// buffers of 4 KiB that pflag's would make to print as many empty defaults.
func (f *Flags) StringSliceVar(p *[]string, name string, value []string, usage string) {
	f.StringSliceVarP(p, name, "", value, usage)
}

// StringSliceVarP is StringSliceVar with a short name.
func (f *Flags) StringSliceVarP(p *[]string, name, short string, value []string, usage string) {
	*p = value
	f.VarP(&listValue{list: p, commas: true}, name, short, usage)
}

// StringArrayVar declares a flag that may be given several times, each time
// with one value.
func (f *Flags) StringArrayVar(p *[]string, name string, value []string, usage string) {
	f.StringArrayVarP(p, name, "", value, usage)
}

// StringArrayVarP is StringArrayVar with a short name.
func (f *Flags) StringArrayVarP(p *[]string, name, short string, value []string, usage string) {
	*p = value
	f.VarP(&listValue{list: p}, name, short, usage)
}

// A listValue is a flag's list; the first value given takes the default's place.
type listValue struct {
	list   *[]string
	commas bool
	given  bool
}

func (v *listValue) Type() string {
	if v.commas {
		return "stringSlice"
	}
	return "stringArray"
}

func (v *listValue) String() string { return "[" + strings.Join(*v.list, ",") + "]" }

func (v *listValue) Set(s string) error {
	values := []string{s}
	if v.commas {
		values = nil
		if s != "" {
			var err error
			if values, err = csv.NewReader(strings.NewReader(s)).Read(); err != nil {
				return err
			}
		}
	}
	if !v.given {
		*v.list, v.given = nil, true
	}
	*v.list = append(*v.list, values...)
	return nil
}
