package main

import (
	"fmt"
	"time"

	"github.com/fusionspim/steward/internal/account/session"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/signingkey"
)

// keysCommand manages the keys that sign access tokens.
type keysCommand struct {
	Rotate keysRotate `cmd:"" help:"Create a new signing key, and retire the current one."`
}

type keysRotate struct {
	databaseSettings `embed:""`
	logSettings      `embed:""`
	MasterKey        sensitive.String `name:"master-key" env:"STEWARD_MASTER_KEY" placeholder:"KEY" help:"Master key of the service."`
	MasterKeyFile    string           `name:"master-key-file" env:"STEWARD_MASTER_KEY_FILE" placeholder:"FILE" help:"File with the master key."`
	JSON             bool             `name:"json" help:"Print one JSON document."`
}

// Help implements kong.HelpProvider.
func (keysRotate) Help() string {
	return `The new key is published at /.well-known/jwks.json within half a minute, and signs after two minutes,
when every replica knows it. Tokens of the old key stay valid until they expire. No user is signed out.`
}

// Run rotates.
func (c keysRotate) Run(s surroundings) error {
	masterKey, err := secret("STEWARD_MASTER_KEY", c.MasterKey, c.MasterKeyFile)
	if err != nil {
		return err
	}
	box, err := seal.ParseMasterKey(masterKey)
	if err != nil {
		return err
	}
	return onDatabase(s, c.databaseSettings, c.logSettings, func(db *postgres.DB) error {
		done, err := session.RotateKeys(s.context, db, box)
		if err != nil {
			return err
		}
		if c.JSON {
			return s.print(done)
		}
		fmt.Fprintf(s.out, "the new key %s signs from %s; tokens of the old one count until %s\n", done.Key,
			done.SignsFrom.Format(time.RFC3339), done.RetiredAt.Format(time.RFC3339))
		return nil
	})
}

// rotateProofKey creates a new key for signatures that stay verifiable for good.
type rotateProofKey struct {
	databaseSettings `embed:""`
	logSettings      `embed:""`
	MasterKey        sensitive.String `name:"master-key" env:"STEWARD_MASTER_KEY" placeholder:"KEY" help:"Master key of the service."`
	MasterKeyFile    string           `name:"master-key-file" env:"STEWARD_MASTER_KEY_FILE" placeholder:"FILE" help:"File with the master key."`
	JSON             bool             `name:"json" help:"Print one JSON document."`
}

func (c rotateProofKey) rotate(s surroundings, purpose signingkey.Purpose) error {
	text, err := secret("STEWARD_MASTER_KEY", c.MasterKey, c.MasterKeyFile)
	if err != nil {
		return err
	}
	box, err := seal.ParseMasterKey(text)
	if err != nil {
		return err
	}
	return onDatabase(s, c.databaseSettings, c.logSettings, func(db *postgres.DB) error {
		made, err := signingkey.Rotate(s.context, db, box, purpose)
		if err != nil {
			return plain(err)
		}
		if c.JSON {
			return s.print(made)
		}
		fmt.Fprintf(s.out, "the new key %s signs from %s\n", made.Key, made.SignsFrom.Format(time.RFC3339))
		return nil
	})
}
