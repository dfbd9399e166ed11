package command

import "fmt"

// ArgRule checks the positional arguments of the command whose full path is
// given, for the error's text.
type ArgRule func(path string, args []string) error

// NoArgs takes none.
func NoArgs(path string, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("`%s` takes no arguments", path)
	}
	return nil
}

// Exactly takes n.
func Exactly(n int) ArgRule {
	return func(_ string, args []string) error {
		if len(args) != n {
			return fmt.Errorf("accepts %d arg(s), received %d", n, len(args))
		}
		return nil
	}
}

// AtLeast takes n or more.
func AtLeast(n int) ArgRule {
	return func(_ string, args []string) error {
		if len(args) < n {
			return fmt.Errorf("requires at least %d arg(s), only received %d", n, len(args))
		}
		return nil
	}
}

// AtMost takes up to n.
func AtMost(n int) ArgRule {
	return func(_ string, args []string) error {
		if len(args) > n {
			return fmt.Errorf("accepts at most %d arg(s), received %d", n, len(args))
		}
		return nil
	}
}

// Between takes min to max.
func Between(min, max int) ArgRule {
	return func(_ string, args []string) error {
		if len(args) < min || len(args) > max {
			return fmt.Errorf("accepts between %d and %d arg(s), received %d", min, max, len(args))
		}
		return nil
	}
}
