package monitor

import (
	"errors"
	"strconv"
	"strings"
)

// Log drivers that the monitor writes itself.
const (
	LogNone        = "none"        // nothing is kept
	LogK8sFile     = "k8s-file"    // CRI's format: time, stream, F or P, text
	LogJSONFile    = "json-file"   // docker's format: one JSON object a line
	LogJournald    = "journald"    // the journal of systemd; LogPath is its socket, LogTag the fields of every entry
	LogPassthrough = "passthrough" // the container has the monitor's own stdio
)

// A Config is everything a monitor is told, once, at its start.
type Config struct {
	// ID names the container (or exec session) in messages.
	ID string
	// RunDir holds the attach socket and the exit record; it must exist.
	RunDir string
	// ExitDir gets a second, fsynced copy of the exit record: the one that
	// outlives a reboot. Empty: none (a container that is removed at its end).
	ExitDir string

	// LogDriver is one of the Log constants; empty means LogNone.
	LogDriver string
	// LogPath is the log file for the drivers that have one.
	LogPath string
	// LogMaxSize is the size in bytes at which the log is rotated; 0 never.
	LogMaxSize int64
	// LogMaxFiles is how many files a rotated log keeps, the one that is
	// written included; less than 1 means 1.
	LogMaxFiles int
	// LogTag is a word put before each line of k8s-file logs; empty for none.
	LogTag string

	// Terminal says that the plan sends a pseudo-terminal over descriptor 4.
	Terminal bool
	// OpenStdin gives the container a standard input that clients write to;
	// without it, it reads /dev/null.
	OpenStdin bool
	// StdinOnce closes that input when the first client closes its own.
	StdinOnce bool
	// Wait says that the plan stops before execve until it is told to start:
	// Start returns when the process exists.
	Wait bool
	// AttachFlags are those of the connection that Start opened.
	AttachFlags Flags
	// Attached says that Start opened a connection.
	Attached bool
	// PlanFiles is the number of descriptors to pass on to the plan, from 5.
	PlanFiles int
	// NamesDir holds the name records that the monitor answers from, on two
	// sockets that came after the plan's files; empty: it has none.
	// NameServers are asked for the rest; none means the host's.
	NamesDir    string
	NameServers []string
	// NotifyTo is the service manager's socket, to which the monitor passes on
	// what the container says on a socket that came after these; empty: there
	// is none.
	NotifyTo string
	// MemoryEvents is the file of the container's group that counts kills at
	// the memory limit, where the group may be gone before anybody asks.
	MemoryEvents string
	// Hold says that one more descriptor came, which is kept open until it is
	// known what became of the start.
	Hold bool
	// OOMScoreAdj is the monitor's own, set after the container was started;
	// where the host forbids it, nothing is changed.
	OOMScoreAdj int

	// Reaper makes the monitor the parent of what the plan's program leaves
	// behind: it is another runtime, whose child the container is.
	Reaper bool

	// Timeout is after how many seconds the container is killed; 0 never.
	Timeout int

	// Cleanup is the command line that the monitor executes at the end, with
	// Env as its environment. Empty: it exits.
	Cleanup []string
	Env     []string
}

const configVersion = "hull-monitor 1"

var errConfig = errors.New("monitor configuration is not valid")

// Encode returns c as lines of KEY VALUE, VALUE quoted where it must be.
func (c *Config) Encode() []byte {
	var b []byte
	line := func(key, value string) {
		b = append(b, key...)
		b = append(b, ' ')
		b = strconv.AppendQuote(b, value)
		b = append(b, '\n')
	}
	b = append(b, configVersion+"\n"...)
	for _, f := range c.fields() {
		switch p := f.value.(type) {
		case *string:
			line(f.key, *p)
		case *bool:
			line(f.key, strconv.FormatBool(*p))
		case *int:
			line(f.key, strconv.Itoa(*p))
		case *int64:
			line(f.key, strconv.FormatInt(*p, 10))
		case *[]string:
			for _, s := range *p {
				line(f.key, s)
			}
		case *Flags:
			line(f.key, strconv.Itoa(int(*p)))
		}
	}
	return b
}

type field struct {
	key   string
	value any
}

// fields is the one list of what is encoded.
func (c *Config) fields() []field {
	return []field{
		{"id", &c.ID}, {"run-dir", &c.RunDir}, {"exit-dir", &c.ExitDir},
		{"log-driver", &c.LogDriver}, {"log-path", &c.LogPath}, {"log-max-size", &c.LogMaxSize},
		{"log-max-files", &c.LogMaxFiles}, {"log-tag", &c.LogTag},
		{"terminal", &c.Terminal}, {"open-stdin", &c.OpenStdin}, {"stdin-once", &c.StdinOnce},
		{"wait", &c.Wait}, {"attach-flags", &c.AttachFlags}, {"attached", &c.Attached},
		{"plan-files", &c.PlanFiles}, {"names-dir", &c.NamesDir}, {"name-servers", &c.NameServers}, {"notify-to", &c.NotifyTo}, {"memory-events", &c.MemoryEvents}, {"hold", &c.Hold}, {"oom-score-adj", &c.OOMScoreAdj},
		{"reaper", &c.Reaper}, {"timeout", &c.Timeout}, {"cleanup", &c.Cleanup}, {"env", &c.Env},
	}
}

// DecodeConfig is the inverse of Encode. An unknown key is an error: the
// monitor and the engine come from one build.
func DecodeConfig(data []byte) (*Config, error) {
	c := new(Config)
	fields := c.fields()
	rest := string(data)
	head, rest, ok := strings.Cut(rest, "\n")
	if !ok || head != configVersion {
		return nil, errConfig
	}
	for rest != "" {
		var line string
		line, rest, ok = strings.Cut(rest, "\n")
		key, quoted, found := strings.Cut(line, " ")
		value, err := strconv.Unquote(quoted)
		if !ok || !found || err != nil {
			return nil, errConfig
		}
		if err := set(fields, key, value); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func set(fields []field, key, value string) (err error) {
	for _, f := range fields {
		if f.key != key {
			continue
		}
		switch p := f.value.(type) {
		case *string:
			*p = value
		case *bool:
			*p, err = strconv.ParseBool(value)
		case *int:
			*p, err = strconv.Atoi(value)
		case *int64:
			*p, err = strconv.ParseInt(value, 10, 64)
		case *[]string:
			*p = append(*p, value)
		case *Flags:
			var n uint64
			n, err = strconv.ParseUint(value, 10, 8)
			*p = Flags(n)
		}
		if err != nil {
			return errConfig
		}
		return nil
	}
	return errConfig
}
