package main

import (
	"fmt"
	"time"

	"github.com/fusionspim/steward/internal/infra/postgres"
)

// migrateCommands migrate the schema up and down.
type migrateCommands struct {
	Up     migrateUp     `cmd:"" help:"Apply pending migrations. Safe to run concurrently."`
	Status migrateStatus `cmd:"" help:"List the migrations and whether they are applied."`
	Down   migrateDown   `cmd:"" help:"Revert the last migration, with the data that only its tables hold."`
}

// Help implements kong.HelpProvider.
func (migrateCommands) Help() string {
	return `The user of the database URL owns what the migrations create. The first time, that user must be able to
create roles (CREATEROLE or superuser), or another user must have run
"create role steward_app nologin; create role steward_platform nologin; create role steward_worker
nologin; create role steward_offboarder nologin;" and granted them.`
}

type migrateUp struct {
	databaseSettings `embed:""`
	JSON             bool `name:"json" help:"Print one JSON document."`
}

// Run applies pending migrations.
func (c migrateUp) Run(s surroundings) error {
	url, err := c.url()
	if err != nil {
		return err
	}
	applied, err := postgres.MigrateUp(s.context, url)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.print(map[string]any{"applied": orNone(applied)})
	}
	for _, one := range applied {
		fmt.Fprintln(s.out, "applied", one.Name)
	}
	if len(applied) == 0 {
		fmt.Fprintln(s.out, "nothing to apply: the schema is up to date")
	}
	return nil
}

type migrateStatus struct {
	databaseSettings `embed:""`
	JSON             bool `name:"json" help:"Print one JSON document."`
}

// Run lists the migrations.
func (c migrateStatus) Run(s surroundings) error {
	url, err := c.url()
	if err != nil {
		return err
	}
	all, err := postgres.MigrationStatus(s.context, url)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.print(map[string]any{"migrations": orNone(all)})
	}
	for _, one := range all {
		state := "missing"
		if one.AppliedAt != nil {
			state = "applied " + one.AppliedAt.Format(time.RFC3339)
		}
		fmt.Fprintf(s.out, "%-40s %s\n", one.Name, state)
	}
	return nil
}

type migrateDown struct {
	databaseSettings `embed:""`
	JSON             bool `name:"json" help:"Print one JSON document."`
}

// Run reverts the last migration.
func (c migrateDown) Run(s surroundings) error {
	url, err := c.url()
	if err != nil {
		return err
	}
	undone, err := postgres.MigrateDown(s.context, url)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.print(map[string]any{"undone": orNone(undone)})
	}
	for _, one := range undone {
		fmt.Fprintln(s.out, "undone", one.Name)
	}
	if len(undone) == 0 {
		fmt.Fprintln(s.out, "nothing to undo")
	}
	return nil
}

func orNone(migrations []postgres.Migration) []postgres.Migration {
	if migrations == nil {
		return []postgres.Migration{}
	}
	return migrations
}
