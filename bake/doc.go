// Package bake reads bake files: which images a project has, and how each is
// built, in HCL or JSON, as docker buildx bake reads them.
//
//	Load     files → blocks: variables, functions, groups, targets
//	Resolve  names → targets, in the order in which they are to be built
//
// Expressions are evaluated when they are needed: a variable may be said by the
// environment or the command line, and refer to other variables, functions and
// attributes of targets. What nothing needs is not evaluated.
//
// It knows nothing of how an image is built: a Target is strings.
package bake
