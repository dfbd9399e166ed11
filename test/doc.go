// Package test has the tests of the program as a whole: they build the
// binaries, run them as a user would, and look at what is left on the machine.
// Tests of a part are beside that part.
package test
