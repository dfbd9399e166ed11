// Package trust decides which images may come in: containers-policy.json(5),
// the signatures that it asks for, and where those are found.
//
//	policy.json ─► requirements of a name ─┬─ accept, reject: decided
//	                                       ├─ signedBy        OpenPGP, from a lookaside (registries.d)
//	                                       └─ sigstoreSigned  a key's signature, from the registry itself
//
// A signature says two things, and both are compared: the digest of a manifest,
// and the name that its maker calls it by. Nothing of a signature is believed
// before its key is one of the policy's.
//
// What cannot be verified here is refused, never passed over: certificates of
// Fulcio or of a PKI, entries of Rekor. A file that is not understood lets
// nothing in.
//
// Nothing here reaches the network; package transfer brings the signatures.
package trust
