package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/compliance/trail"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/signingkey"
)

// auditCommand verifies and exports audit trails.
type auditCommand struct {
	Verify    auditVerify    `cmd:"" help:"Verify that no audit trail was altered, and name the first entry that was."`
	Export    auditExport    `cmd:"" help:"Export a customer's audit trail to a file that can be verified offline."`
	RotateKey auditRotateKey `cmd:"" name:"rotate-key" help:"Rotate the key that signs checkpoints. Old keys stay published."`
}

// masterKeySettings hold the master key where it is optional.
type masterKeySettings struct {
	MasterKey     sensitive.String `name:"master-key" env:"STEWARD_MASTER_KEY" placeholder:"KEY" help:"Master key of the service."`
	MasterKeyFile string           `name:"master-key-file" env:"STEWARD_MASTER_KEY_FILE" placeholder:"FILE" help:"File with the master key."`
}

// box returns the sealing box of the master key; nil without one.
func (m masterKeySettings) box() (*seal.Box, error) {
	if m.MasterKey.IsEmpty() && m.MasterKeyFile == "" {
		return nil, nil
	}
	text, err := secret("STEWARD_MASTER_KEY", m.MasterKey, m.MasterKeyFile)
	if err != nil {
		return nil, err
	}
	return seal.ParseMasterKey(text)
}

type auditVerify struct {
	databaseSettings  `embed:""`
	logSettings       `embed:""`
	masterKeySettings `embed:""`
	Export            string   `name:"export" type:"existingfile" placeholder:"FILE" help:"Verify an export instead of a database; needs no other setting."`
	Customer          []string `name:"customer" placeholder:"SLUG" help:"Verify only this customer's trail. Repeatable."`
	Checkpoint        string   `name:"checkpoint" type:"existingfile" placeholder:"FILE" help:"An earlier checkpoint, which the trail must extend."`
	Key               []string `name:"key" sep:"none" placeholder:"KEY" help:"A trusted verifier key (<name>+<hash>+<key>). Repeatable. Default: the keys of what is verified."`
	JSON              bool     `name:"json" help:"Print one JSON document."`
}

// Help implements kong.HelpProvider.
func (auditVerify) Help() string {
	return `Recomputes the canonical form and hash of every entry and the tree over them, and compares both with
what is stored and with every signed checkpoint. Names the first difference, and exits with 1 if there
is one.

Signatures are verified with the given keys, or else with those of the database. Whoever can write to
the database could have put keys there; with the master key, such keys are detected.`
}

// Run verifies.
func (c auditVerify) Run(s surroundings) error {
	check := trail.Check{Customers: c.Customer, Keys: c.Key}
	var err error
	if c.Checkpoint != "" {
		if check.Checkpoint, err = readCheckpoint(c.Checkpoint); err != nil {
			return err
		}
	}
	var report trail.Report
	if c.Export != "" {
		if len(c.Customer) > 0 {
			return errors.New("--customer is for databases; an export has one customer")
		}
		report, err = c.verifyExport(s.context, check)
	} else {
		if check.Box, err = c.box(); err != nil {
			return err
		}
		err = onTrails(s, c.databaseSettings, c.logSettings, func(db *postgres.DB) error {
			report, err = trail.Verify(s.context, db, check)
			return err
		})
	}
	if err != nil {
		return plain(err)
	}
	if c.JSON {
		err = s.print(report)
	} else {
		printTrails(s.out, report)
	}
	if err == nil && !report.OK {
		err = errors.New("something in the audit trail is not as it was sealed")
	}
	return err
}

func (c auditVerify) verifyExport(ctx context.Context, check trail.Check) (trail.Report, error) {
	file, err := os.Open(c.Export)
	if err != nil {
		return trail.Report{}, err
	}
	defer file.Close()
	return trail.VerifyExport(ctx, file, check)
}

// readCheckpoint reads a checkpoint from a file. Mail programs may have changed its line endings.
func readCheckpoint(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if len(content) > 10_000 {
		return "", fmt.Errorf("%s is too large for a checkpoint", path)
	}
	return string(content), nil
}

func printTrails(to io.Writer, report trail.Report) {
	for _, one := range report.Trails {
		name := one.Customer
		if name == "" {
			name = one.CustomerID
		}
		if len(one.Problems) == 0 {
			fmt.Fprintf(
				to,
				"%s: %d entries and %d checkpoints are as they were sealed and signed\n",
				name,
				one.Entries,
				one.Checkpoints,
			)
			continue
		}
		for _, problem := range one.Problems {
			fmt.Fprintf(to, "%s: BAD %s", name, problem.Kind)
			if problem.LeafIndex != nil {
				fmt.Fprintf(to, ", leaf %d", *problem.LeafIndex)
			}
			if problem.EntryID != "" {
				fmt.Fprintf(to, ", entry %s", problem.EntryID)
			}
			fmt.Fprintf(to, ": %s\n", problem.Detail)
		}
		if one.MoreProblems > 0 {
			fmt.Fprintf(to, "%s: and %d more\n", name, one.MoreProblems)
		}
	}
	switch report.KeysFrom {
	case trail.KeysPublished:
		fmt.Fprintln(to, "the keys are those of the database itself; --master-key or --key checks them as well")
	case trail.KeysExported:
		fmt.Fprintln(to, "the keys are those of the export itself; --key checks them as well")
	case trail.KeysGiven, trail.KeysOpened:
	}
}

type auditExport struct {
	databaseSettings  `embed:""`
	logSettings       `embed:""`
	masterKeySettings `embed:""`
	PublicURL         string `name:"public-url" env:"STEWARD_PUBLIC_URL" placeholder:"URL" help:"Base URL of the service; names the trail when a checkpoint is signed."`
	Customer          string `name:"customer" required:"" placeholder:"SLUG" help:"The customer whose trail to export."`
	To                string `name:"to" required:"" placeholder:"FILE" help:"The file to write; it must not exist."`
	JSON              bool   `name:"json" help:"Print one JSON document."`
}

// Help implements kong.HelpProvider.
func (auditExport) Help() string {
	return `The file has one line of JSON for each entry, in order, with the hashes that prove it, after the
signed checkpoints. With the master key and the public URL, a checkpoint is signed for the export;
without them, the export ends at the newest checkpoint.
Verify it with: steward audit verify --export FILE`
}

// Run exports.
func (c auditExport) Run(s surroundings) (err error) {
	box, err := c.box()
	if err != nil {
		return err
	}
	if box != nil {
		if err := checkPublicURL(c.PublicURL); err != nil {
			return err
		}
	}
	var done trail.Exported
	err = onTrails(s, c.databaseSettings, c.logSettings, func(db *postgres.DB) (err error) {
		var signing *trail.Service
		if box != nil {
			if signing, err = trail.NewService(db, box, nil, nil, c.PublicURL, mailjob.Mailing{}); err != nil {
				return err
			}
		}
		return writeNew(c.To, func(to io.Writer) error {
			done, err = trail.Export(s.context, db, c.Customer, signing, to)
			return err
		})
	})
	if err != nil {
		return plain(err)
	}
	if c.JSON {
		return s.print(done)
	}
	fmt.Fprintf(s.out, "%d entries of %s are in %s\n", done.Entries, c.Customer, c.To)
	for _, key := range done.VerifierKeys {
		fmt.Fprintf(s.out, "verifier key, to be handed over by another way: %s\n", key)
	}
	return nil
}

// writeNew creates a file atomically, and fails if it exists.
func writeNew(path string, write func(io.Writer) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already", path)
	}
	part, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, part.Close(), os.Remove(part.Name()))
		}
	}()
	if err := write(part); err != nil {
		return err
	}
	if err := part.Sync(); err != nil {
		return err
	}
	if err := os.Link(part.Name(), path); err != nil { // unlike a renaming, it replaces nothing
		return err
	}
	return errors.Join(part.Close(), os.Remove(part.Name()))
}

type auditRotateKey struct {
	rotateProofKey `embed:""`
}

// Help implements kong.HelpProvider.
func (auditRotateKey) Help() string {
	return `The new key is published at /.well-known/audit-trail-keys.json within half a minute, and signs a minute
after it was created. Checkpoints signed by old keys stay valid. If an old key can no longer be trusted,
have customers compare their checkpoints with a new one:
GET /v1/audit-checkpoints/latest?since_size=`
}

// Run rotates.
func (c auditRotateKey) Run(s surroundings) error { return c.rotate(s, signingkey.Trail) }

// onTrails opens the database to read whole trails.
func onTrails(s surroundings, database databaseSettings, logs logSettings, work func(db *postgres.DB) error) error {
	url, err := database.url()
	if err != nil {
		return err
	}
	db, err := postgres.Open(
		postgres.Settings{URL: url, MaxConnections: trail.ParallelReads(), PlatformConnections: 1},
		clock.System(),
		logs.logger(s.err),
	)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.CheckSchema(s.context); err != nil {
		return err
	}
	return work(db)
}
