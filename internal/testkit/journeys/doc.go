// Package journeys tests the whole service over HTTP, by subject.
//
// Owns: what a caller of the API can see, told as journeys: each test makes its own customers, on the one
// running service of the test process (apptest.Shared) or, where it restores, kills, moves the clock,
// changes the schema or counts what belongs to all customers, on a service of its own (apptest.Start).
// Does not own: rules that need neither a database nor HTTP, which are tested beside the rule, and how a
// service is started (apptest).
package journeys
