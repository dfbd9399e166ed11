// Package build makes images of Containerfiles.
//
//	Containerfile ── containerfile ── graph of stages
//	                                    │  each stage on its own, waiting for what it needs
//	                                    ▼
//	instruction ── key ── found? ── the layer that is kept under it
//	                        │ no
//	                        ▼
//	        RUN: a container (engine)   COPY, ADD, WORKDIR: a tar
//	                        │                   │
//	                        └──── layer ────────┘ ── kept under the key
//	                                │
//	                        config, manifest, names (image)
//
// # Keys
//
// A step's key is the hash of everything that it reads: the layers below (by
// their content, not by how they came about), the instruction with its
// variables expanded, the environment, and the content of what it copies or
// mounts. Times, paths and names of the context are not in it. Who looks a key
// up needs no container; who finds it has the layer.
//
// A step that only changes the configuration is kept too, for its time: an
// image that is built again of the same has the same ID.
//
// # Terms
//
//	step    one instruction of a stage
//	tree    a directory that COPY reads: the context, a stage, an image
//	chain   the chain ID of a stack of layers, "" of none
//	future  a stage that is being built, or has been
//
// A build writes nothing into its context, and below the store only what is
// complete; what a killed one leaves, the next one finds by its owner's death.
package build
