// Package publictest tests the public modules where that takes more than their users should
// inherit: the service itself, its catalogue of problems, and the libraries of others that serve as
// references.
//
// Owns: tests of the SDK against the service, of signatures and proofs against reference libraries,
// and of the modules as a fresh consumer gets them.
// Does not own: tests of a public module by itself, which stand beside its code.
package publictest
