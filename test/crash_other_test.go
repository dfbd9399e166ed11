//go:build !amd64

package test

// The stepper is amd64's.
func crashRole() bool { return false }
