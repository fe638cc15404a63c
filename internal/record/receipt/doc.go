// Package receipt proves erasures, of people and of customers: it issues signed receipts and
// certificates, and records how far each erasure has come.
//
// Owns: the document of a receipt and of a certificate, their signatures, the states, the table of
// receipts, when an erasure is live-complete and when it is final, and the VACUUM that takes away
// what erasures leave behind.
// Does not own: the erasures themselves (user, offboarding), the signing keys (signingkey), what
// lies in the store of backups (backup), and which tables hold data (app says so).
//
//	pending ──▶ live-complete ──▶ final
//
// A row that was deleted or changed stays in its table, dead, until a VACUUM removes it, and a
// VACUUM leaves alone what any transaction may still see. So an erasure becomes live-complete when
// three things have happened in this order: its transaction ended; nothing was left, in the
// database or beside it, that could see the state before; and all tables that held the rows were
// vacuumed. The service's own roles own no table and may not do that: it uses a connection of the
// owner.
//
// This is not about bytes in the free space of a page, which belong to no row and are overwritten
// when the page fills up; nor about copies of the server's write-ahead log outside the database,
// which are the responsibility of whoever makes them.
//
// An Issuer signs and saves within the transaction of an erasure; user and offboarding hold one.
// The Service is above it: it reads receipts for callers and advances them in the background.
package receipt
