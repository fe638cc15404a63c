package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/ledger"
)

// ledgerCommand verifies the ledger and accepts a baseline.
type ledgerCommand struct {
	Verify ledgerVerify `cmd:"" help:"Verify the whole ledger, and name the first entry that was altered."`
	Accept ledgerAccept `cmd:"" help:"Accept the current ledger as this database's baseline, after manual review."`
}

// ledgerSettings are common to the commands of the ledger.
type ledgerSettings struct {
	blobSettings  `embed:""`
	MasterKey     sensitive.String `name:"master-key" env:"STEWARD_MASTER_KEY" placeholder:"KEY" help:"Master key of the service."`
	MasterKeyFile string           `name:"master-key-file" env:"STEWARD_MASTER_KEY_FILE" placeholder:"FILE" help:"File with the master key."`
	JSON          bool             `name:"json" help:"Print one JSON document."`
}

func (l ledgerSettings) open() (blob.Store, *seal.Box, error) {
	store, err := l.store()
	if err != nil {
		return nil, nil, err
	}
	key, err := secret("STEWARD_MASTER_KEY", l.MasterKey, l.MasterKeyFile)
	if err != nil {
		return nil, nil, err
	}
	box, err := seal.ParseMasterKey(key)
	return store, box, err
}

// checked is the result of verifying a ledger.
type checked struct {
	Ledger   string  `json:"ledger"`
	Segments int64   `json:"segments"`
	Entries  int64   `json:"entries"`
	Head     string  `json:"head"` // hash of the newest entry
	Sound    bool    `json:"sound"`
	Fault    *badOne `json:"fault"`
}

type badOne struct {
	Segment int64  `json:"segment"`
	Entry   int64  `json:"entry"` // 0: the segment as a whole
	Why     string `json:"why"`
}

func newChecked(found ledger.Check) checked {
	out := checked{
		Ledger:   found.Ledger.String(),
		Segments: found.Segments,
		Entries:  found.Entries,
		Head:     found.Head.Hash.String(),
		Sound:    found.Fault == nil,
	}
	if found.Fault != nil {
		out.Fault = &badOne{found.Fault.Segment, found.Fault.Entry, found.Fault.Why}
	}
	return out
}

func (c checked) print(to io.Writer) {
	fmt.Fprintf(
		to,
		"ledger %s: %d entries in %d segments, the newest hashes to %s\n",
		c.Ledger,
		c.Entries,
		c.Segments,
		c.Head,
	)
}

// ledgerVerify verifies the chain and the authentication codes. It needs no database.
type ledgerVerify struct {
	ledgerSettings `embed:""`
}

// Run prints the result, and fails if anything was altered.
func (c ledgerVerify) Run(s surroundings) error {
	store, box, err := c.open()
	if err != nil {
		return err
	}
	found, err := ledger.Verify(s.context, store, box)
	if errors.Is(err, blob.ErrNotFound) {
		return errors.New("the store has no ledger")
	}
	if err != nil {
		return err
	}
	document := newChecked(found)
	if c.JSON {
		err = s.print(document)
	} else {
		document.print(s.out)
	}
	if err == nil && found.Fault != nil {
		err = found.Fault
	}
	return err
}

// ledgerAccept resolves a mismatch of ledger and database.
type ledgerAccept struct {
	databaseSettings `embed:""`
	ledgerSettings   `embed:""`
}

// Help implements kong.HelpProvider.
func (ledgerAccept) Help() string {
	return `The service stays closed when the ledger does not match the database: it is another ledger, it ends
before what the database has applied, or the database is empty. Find out why first: the store and the
database may be from different times. What the ledger lacks will not be replayed after another restore,
so delete the backups from before now, or erase again. Accepting records that the database has applied
everything in this ledger.`
}

// Run accepts.
func (c ledgerAccept) Run(s surroundings) error {
	store, box, err := c.open()
	if err != nil {
		return err
	}
	url, err := c.url()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := postgres.Open(
		postgres.Settings{URL: url, MaxConnections: 1, PlatformConnections: 1},
		clock.System(),
		log,
	)
	if err != nil {
		return err
	}
	book := ledger.New(store, box, clock.System(), log)
	defer book.Close()
	found, err := book.Accept(s.context, db)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	document := newChecked(found)
	if c.JSON {
		return s.print(document)
	}
	document.print(s.out)
	fmt.Fprintln(s.out, "accepted: the service opens by itself within seconds")
	return nil
}
