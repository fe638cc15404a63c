package trail

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/signingkey"
	"github.com/fusionspim/steward/pkg/trailproof"
)

const (
	chunk       = 8192        // leaves that are read and hashed at once
	sealedByNow = time.Minute // after which an entry without a number is a problem
)

// Report is the result of a verification.
type Report struct {
	OK       bool          `json:"ok"`
	KeysFrom KeysFrom      `json:"keys_from"`
	Trails   []TrailReport `json:"trails"`
	Entries  int64         `json:"entries"`
}

// TrailReport is the result of verifying one trail.
type TrailReport struct {
	CustomerID   string    `json:"customer_id"`
	Customer     string    `json:"customer,omitempty"` // the slug
	Entries      int64     `json:"entries"`            // entries with a number
	Unsealed     int64     `json:"unsealed"`           // entries without one yet
	Checkpoints  int       `json:"checkpoints"`
	Problems     []Problem `json:"problems"`
	MoreProblems int       `json:"more_problems"` // problems that are not listed
}

// KeysFrom is the source of the keys that verify signatures. The set is closed.
type KeysFrom string

// Sources of keys. What is verified is itself a weak source.
const (
	KeysGiven     KeysFrom = "given"      // by the caller
	KeysOpened    KeysFrom = "master_key" // authenticated by the master key
	KeysPublished KeysFrom = "database"   // as stored in the database
	KeysExported  KeysFrom = "export"     // as stored in the export
)

// Check says what to verify, and with which keys.
type Check struct {
	Customers  []string // slugs; empty: all
	Keys       []string // verifier keys; empty: those of the database
	Box        *seal.Box
	Checkpoint string // an earlier one; empty: none
}

// ParallelReads returns how many connections a verification uses.
func ParallelReads() int { return min(max(runtime.GOMAXPROCS(0), 2), 8) }

// publicKeys extracts the keys from verifier keys, whatever trail they name: all trails share one
// key.
func publicKeys(verifierKeys []string) ([]ed25519.PublicKey, error) {
	keys := make([]ed25519.PublicKey, len(verifierKeys))
	for i, text := range verifierKeys {
		parts := strings.SplitN(text, "+", 3)
		_, err := note.NewVerifier(text)
		if err != nil || len(parts) != 3 {
			return nil, fmt.Errorf(
				"%q is not a verifier key, such as an answer of GET /v1/audit-checkpoints/latest has",
				text,
			)
		}
		raw, err := base64.StdEncoding.DecodeString(parts[2])
		if err != nil || len(raw) != 1+ed25519.PublicKeySize {
			return nil, fmt.Errorf("%q is not an Ed25519 verifier key", text)
		}
		if again, err := trailproof.VerifierKey(parts[0], raw[1:]); err != nil || again != text {
			return nil, fmt.Errorf("%q is not a verifier key as it is written", text)
		}
		keys[i] = raw[1:]
	}
	return keys, nil
}

// openWith opens a checkpoint of the customer that one of the keys signed.
func openWith(keys []ed25519.PublicKey, text, customerID string) (trailproof.Checkpoint, error) {
	read, err := trailproof.ReadCheckpoint(text)
	if err != nil {
		return trailproof.Checkpoint{}, err
	}
	customer, err := uuid.Parse(customerID)
	if err != nil || customer.String() != customerID || !trailproof.IsOriginOf(read.Origin, customer) {
		return trailproof.Checkpoint{}, errors.New("it is one of another trail")
	}
	verifierKeys := make([]string, len(keys))
	for i, key := range keys {
		if verifierKeys[i], err = trailproof.VerifierKey(read.Origin, key); err != nil {
			return trailproof.Checkpoint{}, err
		}
	}
	return trailproof.OpenCheckpoint(text, verifierKeys...)
}

// Verify verifies trails in the database: every entry against its leaf, every hash of the tree,
// every checkpoint, and that no entry is missing or surplus. It reads through the doors, as of the
// start: entries that are appended meanwhile do not matter.
func Verify(ctx context.Context, db *postgres.DB, check Check) (Report, error) {
	report := Report{OK: true, Trails: []TrailReport{}}
	keys, from, err := checkKeys(ctx, db, check)
	if err != nil {
		return Report{}, err
	}
	report.KeysFrom = from
	customers, err := chosenCustomers(ctx, db, check.Customers)
	if err != nil {
		return Report{}, err
	}
	given := tidied(check.Checkpoint)
	if given != "" {
		read, err := trailproof.ReadCheckpoint(given)
		if err != nil {
			return Report{}, fmt.Errorf("what was given is not a checkpoint: %w", err)
		}
		var whose []listed
		for _, one := range customers {
			if trailproof.IsOriginOf(read.Origin, one.id.UUID) {
				whose = append(whose, one)
			}
		}
		if customers = whose; len(whose) == 0 {
			return Report{}, fmt.Errorf("the checkpoint is one of %s, and there is no such trail here", read.Origin)
		}
	}
	for _, one := range customers {
		trail, err := verifyTrail(ctx, db, one, keys, given)
		if err != nil {
			return Report{}, fmt.Errorf("checking the trail of %s: %w", one.slug, err)
		}
		report.add(trail)
	}
	return report, nil
}

// tidied restores the line endings of a checkpoint, which may have changed in transit.
func tidied(text string) string {
	text = strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
	if text == "" {
		return ""
	}
	return text + "\n"
}

func (r *Report) add(trail TrailReport) {
	r.Trails = append(r.Trails, trail)
	r.Entries += trail.Entries
	r.OK = r.OK && len(trail.Problems) == 0
}

// checkKeys returns the keys that verify signatures: the given ones, or those of the database,
// authenticated by the master key if there is one.
func checkKeys(ctx context.Context, db *postgres.DB, check Check) (keys []ed25519.PublicKey, from KeysFrom, err error) {
	if len(check.Keys) > 0 {
		keys, err = publicKeys(check.Keys)
		return keys, KeysGiven, err
	}
	from = KeysPublished
	err = db.InPlatform(ctx, func(tx *postgres.Tx) error {
		keys = nil
		kept, err := signingkey.KeysTx(tx, signingkey.Trail)
		if err != nil {
			return err
		}
		for _, one := range kept {
			public := one.Public
			if check.Box != nil {
				from = KeysOpened
				opened, err := one.Open(check.Box)
				if err != nil {
					return err
				}
				public = opened.Public()
			} else if err := one.Check(); err != nil {
				return err
			}
			keys = append(keys, public)
		}
		return nil
	})
	return keys, from, err
}

// chosenCustomers returns the customers with these slugs, or all customers.
func chosenCustomers(ctx context.Context, db *postgres.DB, slugs []string) (chosen []listed, err error) {
	const page = 500
	wanted := make(map[string]bool, len(slugs))
	for _, slug := range slugs {
		wanted[slug] = true
	}
	for after := (id.Customer{}); ; {
		var some []listed
		err := db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
			some, err = customersAfter(tx, after, page)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, one := range some {
			if len(slugs) == 0 || wanted[one.slug] {
				chosen = append(chosen, one)
				delete(wanted, one.slug)
			}
		}
		if len(some) < page {
			break
		}
		after = some[len(some)-1].id
	}
	for slug := range wanted {
		return nil, fmt.Errorf("there is no customer %q", slug)
	}
	return chosen, nil
}

// verifyTrail verifies the trail of one customer.
func verifyTrail(
	ctx context.Context,
	db *postgres.DB,
	of listed,
	keys []ed25519.PublicKey,
	given string,
) (report TrailReport, err error) {
	report = TrailReport{CustomerID: of.id.String(), Customer: of.slug, Problems: []Problem{}}
	var state trailState
	var kept []storedCheckpoint
	err = db.InCustomer(ctx, of.id, func(tx *postgres.Tx) (err error) {
		if kept, err = allCheckpoints(tx); err != nil {
			return err
		}
		// Read after the checkpoints: a trail only grows, so no checkpoint covers more than it has
		// by then.
		state, err = stateOf(tx)
		return err
	})
	if err != nil {
		return report, err
	}
	report.Unsealed, report.Checkpoints = state.unsealed, len(kept)
	claims, bad := claimsOf(kept, keys, of.id.String())
	if given != "" {
		opened, err := openWith(keys, given, of.id.String())
		if err != nil {
			return report, fmt.Errorf("the checkpoint that was given does not count: %w", err)
		}
		claims = append(claims, claim{size: opened.Size, root: opened.Root, what: "that was given"})
	}
	checker := newChecker(claims)
	if err := readLeaves(ctx, db, of.id, state.size, checker); err != nil {
		return report, err
	}
	checker.end(state.size, state.roots)
	if state.leaves > state.size {
		checker.fail(
			badHead,
			nil,
			fmt.Sprintf("the head says %d entries, and there are leaves up to %d", state.size, state.leaves-1),
		)
	}
	if err := lookForLost(ctx, db, of.id, state, checker); err != nil {
		return report, err
	}
	report.Entries = checker.next
	report.Problems = append(append(report.Problems, checker.problems...), bad...)
	report.MoreProblems = checker.more
	return report, nil
}

// claimsOf opens checkpoints. Those that do not verify are problems.
func claimsOf(kept []storedCheckpoint, keys []ed25519.PublicKey, customerID string) (claims []claim, bad []Problem) {
	for _, one := range kept {
		opened, err := openWith(keys, one.note, customerID)
		switch {
		case err != nil:
			bad = append(
				bad,
				Problem{
					Kind:   badCheckpoint,
					Detail: fmt.Sprintf("the checkpoint of %d entries does not count: %v", one.size, err),
				},
			)
		case opened.Size != uint64(one.size):
			bad = append(
				bad,
				Problem{
					Kind:   badCheckpoint,
					Detail: fmt.Sprintf("the checkpoint of %d entries is one of %d", one.size, opened.Size),
				},
			)
		case !signedAt(opened, one).Equal(one.createdAt):
			bad = append(
				bad,
				Problem{
					Kind: badCheckpoint,
					Detail: fmt.Sprintf(
						"the checkpoint of %d entries was signed at %s, and the database says %s",
						one.size,
						opened.At.Format(time.RFC3339Nano),
						one.createdAt.UTC().Format(time.RFC3339Nano),
					),
				},
			)
		default:
			claims = append(
				claims,
				claim{size: opened.Size, root: opened.Root, what: fmt.Sprintf("of %d entries", one.size)},
			)
		}
	}
	return claims, bad
}

// readLeaves passes the first size leaves to the checker in order. It reads and hashes chunks
// concurrently, and reuses the memory of checked chunks.
func readLeaves(ctx context.Context, db *postgres.DB, of id.Customer, size int64, checker *checker) error {
	var spare sync.Pool
	return inOrder(ctx, func(start func(func() (*leaves, error)) bool) error {
		for from := int64(0); from < size; from += chunk {
			if !start(func() (*leaves, error) {
				some, ok := spare.Get().(*leaves)
				if !ok {
					some = &leaves{}
				}
				return some, some.read(ctx, db, of, from, min(from+chunk, size), false)
			}) {
				break
			}
		}
		return nil
	}, func(some *leaves) error {
		for _, one := range some.rows {
			checker.add(one)
		}
		spare.Put(some)
		return nil
	})
}

// inOrder runs pieces of work concurrently, a few at a time, and uses their results in the order in
// which they were started. It returns when none is running.
func inOrder[T any](
	ctx context.Context,
	produce func(start func(piece func() (T, error)) bool) error,
	use func(T) error,
) error {
	type outcome struct {
		value T
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pieces := make(chan chan outcome, ParallelReads()-1) // one more is being waited for
	produced := make(chan error, 1)
	go func() {
		defer close(pieces)
		produced <- produce(func(piece func() (T, error)) bool {
			done := make(chan outcome, 1)
			select {
			case pieces <- done:
			case <-ctx.Done():
				return false
			}
			go func() {
				value, err := piece()
				done <- outcome{value, err}
			}()
			return true
		})
	}()
	var failed error
	for done := range pieces {
		found := <-done
		if failed != nil {
			continue
		}
		if failed = found.err; failed == nil {
			failed = ctx.Err()
		}
		if failed == nil {
			failed = use(found.value)
		}
		if failed != nil {
			cancel()
		}
	}
	return errors.Join(failed, <-produced)
}

// lookForLost finds entries that have no number and are not queued for one, and those queued for
// too long.
func lookForLost(ctx context.Context, db *postgres.DB, of id.Customer, state trailState, checker *checker) error {
	missing := state.entries != state.leavesCount+state.unsealed
	for _, one := range checker.problems {
		missing = missing || one.Kind == badEntry
	}
	return db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
		if missing {
			lost, err := lostEntries(tx, mostProblems)
			if err != nil {
				return err
			}
			for _, entry := range lost {
				checker.fail(
					badUnsealed,
					&row{index: -1, entry: entry},
					"the entry has no leaf, and is not waiting for one",
				)
			}
		}
		entry, since, waiting, err := longestUnsealed(tx)
		if err == nil && waiting && tx.Now.Sub(since) > sealedByNow {
			checker.fail(
				badUnsealed,
				&row{index: -1, entry: entry},
				"the entry has waited for its place since "+since.UTC().Format(time.RFC3339)+"; is a replica running?",
			)
		}
		return err
	})
}

// leaves is a chunk of leaves with their entries. The rows point into what the database sent.
type leaves struct {
	data bytes.Buffer
	rows []row
}

// read reads leaves with their entries, and keeps the canonical form of the entries if whole is
// set.
func (l *leaves) read(ctx context.Context, db *postgres.DB, of id.Customer, from, to int64, whole bool) error {
	l.data.Grow(int(to-from) * 600)
	err := db.InCustomerAutocommit(ctx, of, func(tx *postgres.Tx) error {
		l.data.Reset()
		return copyLeaves(tx, &l.data, from, to)
	})
	if err != nil {
		return err
	}
	l.rows, err = readRows(l.rows[:0], l.data.Bytes(), whole)
	return err
}
