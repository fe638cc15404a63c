// Package long tests over HTTP, as package journeys does, what takes many rounds or much data: kill
// runs, races of hundreds of pairs, a large customer, every changed byte.
//
// Owns: the long form of rules whose short form is in package journeys. It is run by make test-
// long. Does not own: what a few calls can show (journeys), and the drill of restores
// (bench/drill).
package long
