// Package welcome is the program of the image hull/welcome, which is made of
// this installation's own file and needs no network: a first container that
// shows what containers are.
//
//	welcome              prints the report and ends
//	welcome serve        answers every HTTP request on port 8080 with it
//
// The report is read from /proc and a few system calls at each request:
// nothing in it is written down beforehand. It is sections of lines; Text and
// Page are two ways to show them. The program links neither net nor net/http:
// its server is a loop over accept(2), bounded in what it reads and how long it waits.
package welcome
