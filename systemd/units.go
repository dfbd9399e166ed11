package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	managerPath  = "/org/freedesktop/systemd1"
	managerIface = "org.freedesktop.systemd1.Manager"
)

// BootService starts containers when the machine has come up, and stops them
// before it goes down.
const BootService = "hull-restart.service"

// Lasting are the properties of a scope that a shutdown leaves alone until
// BootService has stopped what it is to stop: scopes have no order of their
// own, but their slices end, and they with them. What is in it then has that
// long after its signal; 0 is a second, for to the manager it would be for ever.
func Lasting(timeout time.Duration) []Property {
	return []Property{{"Before", []string{BootService}}, {"TimeoutStopUSec", uint64(max(timeout, time.Second) / time.Microsecond)}}
}

// A Unit is one to start: a scope around processes that exist, or a slice.
type Unit struct {
	Name        string
	Description string
	// Slice is where it is; "" is the manager's choice.
	Slice string
	// Pids are a scope's first processes; it ends with its last.
	Pids []uint32
	// Properties are its limits and whatever else the manager knows.
	Properties []Property
}

// optional are properties that managers of the last years learned: one that
// does not know them goes without.
var optional = []string{"OOMPolicy", "AllowedCPUs", "AllowedMemoryNodes", "CPUQuotaPeriodUSec", "MemoryMin", "CollectMode"}

// properties are all that are sent; without are those that the manager refused.
func (u Unit) properties(without []string) []Property {
	list := []Property{{"Description", u.Description}}
	if u.Slice != "" {
		list = append(list, Property{"Slice", u.Slice})
	}
	if strings.HasSuffix(u.Name, ".scope") {
		// Whoever is in it makes groups of his own, and no order of shutdown
		// but the engine's ends it.
		list = append(list, Property{"PIDs", u.Pids}, Property{"Delegate", true}, Property{"CollectMode", "inactive-or-failed"}, Property{"OOMPolicy", "continue"})
	}
	list = append(list, Property{"DefaultDependencies", false},
		Property{"MemoryAccounting", true}, Property{"CPUAccounting", true}, Property{"IOAccounting", true}, Property{"TasksAccounting", true})
	list = append(list, u.Properties...)
	return slices.DeleteFunc(list, func(p Property) bool { return slices.Contains(without, p.Name) })
}

// A job is one unit on its way.
type job struct {
	unit    Unit
	without []string // properties that the manager refused
	serial  uint32
	path    string
	err     error
	done    bool
}

// Start starts units and waits until they are there. A scope of that name that
// is left from before makes way; a slice that is there gets the properties.
func (conn *Conn) Start(ctx context.Context, units ...Unit) error {
	stop := conn.until(ctx)
	defer func() { stop() }()
	jobs := make([]*job, len(units))
	for i, u := range units {
		jobs[i] = &job{unit: u}
	}
	for range 8 {
		err := conn.attempt(jobs)
		if lost(err) {
			if err = conn.again(ctx); err == nil {
				stop()
				stop = conn.until(ctx)
				for _, j := range jobs {
					j.done = j.done || j.unit.placed() // before the manager went
				}
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("start unit %s: %w", units[0].Name, err)
		}
		all := true
		for _, j := range jobs {
			all = all && j.done
			if j.done {
				continue
			}
			if err := conn.mend(j); err != nil {
				return fmt.Errorf("start unit %s: %w", j.unit.Name, err)
			}
		}
		if all {
			return nil
		}
	}
	return fmt.Errorf("start unit %s: the service manager refused it again and again", units[0].Name)
}

// attempt asks for all units that are not there yet, and waits. The error is
// the connection's; a unit's own is in its job.
func (conn *Conn) attempt(jobs []*job) error {
	var todo []*job
	for _, j := range jobs {
		if j.done {
			continue
		}
		e := &encoder{}
		e.string(j.unit.Name)
		e.string("fail")
		if err := e.properties(j.unit.properties(j.without)); err != nil {
			return err
		}
		e.array(8, func() {}) // units that go with it
		var err error
		if j.serial, err = conn.send(managerPath, managerIface, "StartTransientUnit", "ssa(sv)a(sa(sv))", e.b); err != nil {
			return err
		}
		todo = append(todo, j)
	}
	for _, j := range todo {
		d, err := conn.reply(j.serial)
		if err == nil {
			j.path = d.string()
			err = d.err
		}
		var refused *BusError
		if j.err = err; err != nil && !errors.As(err, &refused) {
			return err
		}
	}
	for _, j := range todo {
		if j.err != nil {
			continue
		}
		result, err := conn.wait(j.path)
		if err != nil {
			return err
		}
		if j.done = result == "done"; !j.done {
			j.err = fmt.Errorf("its job ended as %q", result)
		}
	}
	return nil
}

// mend does what can be done about a refusal before the next attempt.
func (conn *Conn) mend(j *job) error {
	var refused *BusError
	if !errors.As(j.err, &refused) {
		return j.err
	}
	switch refused.Name {
	case errUnitExists:
		if strings.HasSuffix(j.unit.Name, ".slice") {
			j.done = true
			return conn.set(j.unit.Name, j.unit.Properties)
		}
		return conn.clear(j.unit.Name)
	case errReadOnly, errUnknownField:
		if name := unknownProperty(refused.Text, j.without); name != "" {
			j.without = append(j.without, name)
			return nil
		}
	}
	return j.err
}

// placed says whether a scope's first process is in it.
func (u Unit) placed() bool {
	if len(u.Pids) == 0 {
		return false
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", u.Pids[0]))
	return err == nil && strings.HasSuffix(strings.TrimSpace(string(data)), "/"+u.Name)
}

// unknownProperty is the optional property that a refusal is about: its text
// names it, in words that differ between versions.
func unknownProperty(text string, tried []string) string {
	for _, name := range optional {
		if strings.Contains(text, name) && !slices.Contains(tried, name) {
			return name
		}
	}
	return ""
}

// call makes a call of the manager whose answer says nothing.
func (conn *Conn) call(member, sig string, body []byte) (*decoder, error) {
	serial, err := conn.send(managerPath, managerIface, member, sig, body)
	if err != nil {
		return nil, err
	}
	return conn.reply(serial)
}

// end stops a unit and waits for it. One that is not there is no error.
func (conn *Conn) end(name string) error {
	e := &encoder{}
	e.string(name)
	e.string("replace")
	d, err := conn.call("StopUnit", "ss", e.b)
	if err == nil {
		job := d.string()
		if err = d.err; err == nil {
			_, err = conn.wait(job)
		}
	}
	if isBusError(err, errNoSuchUnit) {
		return nil
	}
	return err
}

// clear stops a unit and has it forgotten, even if it failed.
func (conn *Conn) clear(name string) error {
	if err := conn.end(name); err != nil {
		return err
	}
	e := &encoder{}
	e.string(name)
	if _, err := conn.call("ResetFailedUnit", "s", e.b); err != nil && !isBusError(err, errNoSuchUnit) {
		return err
	}
	return nil
}

// Stop ends a unit and what is in it. One that is not there is no error.
func (conn *Conn) Stop(ctx context.Context, name string) error {
	stop := conn.until(ctx)
	defer func() { stop() }()
	err := conn.end(name)
	if lost(err) {
		if err = conn.again(ctx); err == nil {
			stop()
			stop = conn.until(ctx)
			err = conn.end(name)
		}
	}
	if err != nil {
		return fmt.Errorf("stop unit %s: %w", name, err)
	}
	return nil
}

// Set changes properties of a unit that is there, until it ends.
func (conn *Conn) Set(ctx context.Context, name string, list []Property) error {
	stop := conn.until(ctx)
	defer func() { stop() }()
	err := conn.set(name, list)
	if lost(err) {
		if err = conn.again(ctx); err == nil {
			stop()
			stop = conn.until(ctx)
			err = conn.set(name, list)
		}
	}
	if err != nil {
		return fmt.Errorf("set properties of unit %s: %w", name, err)
	}
	return nil
}

func (conn *Conn) set(name string, list []Property) error {
	for len(list) > 0 {
		e := &encoder{}
		e.string(name)
		e.uint32(1) // not in its file
		if err := e.properties(list); err != nil {
			return err
		}
		_, err := conn.call("SetUnitProperties", "sba(sv)", e.b)
		var refused *BusError
		if !errors.As(err, &refused) || refused.Name != errReadOnly && refused.Name != errUnknownField {
			return err
		}
		unknown := unknownProperty(refused.Text, nil)
		rest := slices.DeleteFunc(slices.Clone(list), func(p Property) bool { return p.Name == unknown })
		if len(rest) == len(list) {
			return err
		}
		list = rest
	}
	return nil
}

// ServiceType is the Type= of a service, with "+" behind one that remains
// after its process has ended; "" for what is no service.
func (conn *Conn) ServiceType(ctx context.Context, name string) (string, error) {
	defer conn.until(ctx)()
	const iface = "org.freedesktop.systemd1.Service"
	path := managerPath + "/unit/" + escape(name)
	get := func(property string) (*decoder, error) {
		e := &encoder{}
		e.string(iface)
		e.string(property)
		serial, err := conn.send(path, "org.freedesktop.DBus.Properties", "Get", "ss", e.b)
		if err != nil {
			return nil, err
		}
		d, err := conn.reply(serial)
		if err == nil {
			d.signature()
		}
		return d, err
	}
	d, err := get("Type")
	if err != nil {
		return "", fmt.Errorf("ask for unit %s: %w", name, err)
	}
	kind := d.string()
	if d, err = get("RemainAfterExit"); err == nil && d.uint32() == 1 {
		kind += "+"
	}
	return kind, nil
}

// escape makes a unit's name the last element of its path.
func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}
