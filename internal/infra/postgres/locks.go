package postgres

// Lock names an advisory lock of the database. All are listed here, because they share one space of
// numbers; the numbers mean nothing, and stay as they are for replicas of an older version.
//
// Two more kinds share the space: an Idempotency-Key is locked under 64 bits of its keyed hash, and
// the migrations under the number of their library.
type Lock int64

// The advisory locks of the service.
const (
	LockTokenKeys   Lock = 7_238_160_053 // creating or retiring the keys that sign access tokens
	LockSigningKeys Lock = 7_238_160_054 // creating the keys that sign receipts and checkpoints
	LockReplicas    Lock = 7_238_160_059 // held, shared, by every running replica
	LockBackup      Lock = 7_305_112_027 // making a backup
	LockVacuum      Lock = 7_305_112_031 // vacuuming after erasures
)

// LockClass names a family of advisory locks with 32 bits of a hash as their second number.
type LockClass int32

// LockAlertCap counts the mails that the users of one customer get in an hour.
const LockAlertCap LockClass = 7301

// Acquire waits for the lock and holds it until the transaction ends.
func (tx *Tx) Acquire(lock Lock) error {
	_, err := tx.Exec("select pg_advisory_xact_lock($1)", int64(lock))
	return err
}

// TryAcquire takes the lock until the transaction ends, and reports whether it was free.
func (tx *Tx) TryAcquire(lock Lock) (acquired bool, err error) {
	err = tx.QueryRow("select pg_try_advisory_xact_lock($1)", int64(lock)).Scan(&acquired)
	return acquired, err
}

// AcquireForCustomer waits for the lock of the transaction's customer in the class, and holds it
// until the transaction ends.
func (tx *Tx) AcquireForCustomer(class LockClass) error {
	_, err := tx.Exec("select pg_advisory_xact_lock($1, hashtext($2))", int32(class), tx.Customer.String())
	return err
}
