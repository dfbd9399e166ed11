// Package containerfile reads Containerfiles: text in, a graph of stages out.
//
//	text ─► Parse ─► File ─► Graph ─► stages in the order of their need
//
// The grammar is BuildKit's own, read by its library; what the words mean is
// decided here and in package build. Nothing in this package touches an image,
// a container or the network.
//
// # Terms
//
//	stage     FROM and the instructions up to the next FROM
//	target    the stage that becomes the image
//	scope     what $NAME means at one place: arguments and environment
//	global    of an ARG before the first FROM: known to FROM lines, and to a
//	          stage that declares it again
//	context   the directory that COPY and ADD read; further ones have names
package containerfile
