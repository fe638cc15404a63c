// Command steward is the service and everything that operates it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

const description = `Steward keeps other companies' user accounts lawfully: a GDPR data-processor service over HTTP.

To try it, with a private PostgreSQL and ready-made accounts:

  steward dev

To run it for good:

  steward migrate up && steward serve

Every flag can be set by the environment variable that is named beside it, and a secret also by a file, through the variable whose name ends in _FILE.`

// commands is the table of contents.
type commands struct {
	Dev       devCommand       `cmd:"" help:"Try the service, with a private PostgreSQL, two customers and ready-made credentials."`
	Serve     serveCommand     `cmd:"" help:"Run one replica of the service."`
	Migrate   migrateCommands  `cmd:"" help:"Migrate the database schema to this program's version."`
	Operator  operatorCommand  `cmd:"" help:"Manage operators, who are Fusions' staff."`
	Customer  customerCommand  `cmd:"" help:"Manage customers."`
	Ledger    ledgerCommand    `cmd:"" help:"Verify the ledger, which records what must survive a restore."`
	Keys      keysCommand      `cmd:"" help:"Manage the keys that sign access tokens."`
	Backup    backupCommand    `cmd:"" help:"Create, verify, restore and expire backups."`
	Jobs      jobsCommand      `cmd:"" help:"List and retry background jobs."`
	Receipt   receiptCommand   `cmd:"" help:"Verify erasure receipts, and manage their signing keys."`
	Audit     auditCommand     `cmd:"" help:"Verify and export audit trails."`
	Inventory inventoryCommand `cmd:"" help:"Print what the service stores, of whom, and for how long."`
	Version   versionCommand   `cmd:"" help:"Print the version of this program."`
}

// surroundings are what commands use of the process.
type surroundings struct {
	context context.Context
	out     io.Writer
	err     io.Writer
}

// print writes a JSON document to standard output, which then holds nothing else.
func (s surroundings) print(document any) error {
	encoder := json.NewEncoder(s.out)
	encoder.SetEscapeHTML(false) // connection strings hold ampersands
	return encoder.Encode(document)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, arguments []string, out, errOut io.Writer) int {
	var all commands
	exit := -1
	parser, err := kong.New(
		&all,
		kong.Name("steward"),
		kong.Description(description),
		kong.Writers(out, errOut),
		kong.UsageOnError(),
		kong.Exit(
			func(code int) { exit = code },
		),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
	)
	if err != nil {
		// the SDK names itself too
		fmt.Fprintln(errOut, "steward:", strings.TrimPrefix(err.Error(), "steward: "))
		return 2
	}
	chosen, err := parser.Parse(arguments)
	if exit >= 0 {
		return exit // help was asked for and given
	}
	if err != nil {
		parser.FatalIfErrorf(err)
		return 2
	}
	err = chosen.Run(surroundings{context: ctx, out: out, err: errOut})
	if err != nil && !errors.Is(err, context.Canceled) {
		// the SDK names itself too
		fmt.Fprintln(errOut, "steward:", strings.TrimPrefix(err.Error(), "steward: "))
		return 1
	}
	return 0
}
