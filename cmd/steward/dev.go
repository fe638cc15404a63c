package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/dev/devpg"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/egress"
	"github.com/fusionspim/steward/internal/infra/password"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/backup"
)

const (
	devAddr     = "127.0.0.1:8080"
	devDatabase = "steward"
	devRole     = "steward_service" // signs in, and may take the service's roles, and nothing else
	devBackup   = "steward_backup"  // signs in and reads everything, for pg_dump
	devSiblings = 16                // how many may run at once in the default place
	devWorkers  = 4
	devWait     = 2 * time.Minute // of an offboarding
)

// devCommand runs the service with everything it needs.
type devCommand struct {
	Addr      string     `name:"addr" default:"127.0.0.1:8080" help:"Address to listen on; port 0 picks a free port, and so does the default when it is in use."`
	Data      string     `name:"data" placeholder:"DIR" help:"Folder of the database between runs. Default: below the user's cache folder."`
	Ephemeral bool       `name:"ephemeral" help:"Leave nothing behind."`
	JSON      bool       `name:"json" help:"Print one line of JSON for programs."`
	LogLevel  slog.Level `name:"log-level" env:"STEWARD_LOG_LEVEL" default:"INFO" help:"Minimum log level: DEBUG, INFO, WARN or ERROR."`
}

// Help implements kong.HelpProvider.
func (devCommand) Help() string {
	return `Starts a private PostgreSQL from the programs on this machine, migrates it, seeds two customers and an
operator, and prints how to sign in. Stop it with Ctrl-C. Data persists between runs.`
}

// Run serves until the process is signalled to stop.
func (c devCommand) Run(s surroundings) (err error) {
	log := logSettings{LogFormat: "text", LogLevel: c.LogLevel}.logger(s.err)
	dir, server, err := c.startDatabase(s.context, log)
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(s.context), 30*time.Second)
		defer cancel()
		err = errors.Join(err, server.Stop(stopping))
		if c.Ephemeral {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	serviceURL, backupURL, err := prepareDatabase(s.context, server)
	if err != nil {
		return err
	}
	kept, err := prepareKept(s.context, dir, server, backupURL)
	if err != nil {
		return err
	}
	masterKey, err := keepMasterKey(filepath.Join(dir, "master.key"))
	if err != nil {
		return err
	}
	listener, err := c.listen()
	if err != nil {
		return err
	}
	metrics, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	caught, err := openMailbox(s.context, log)
	if err != nil {
		return errors.Join(err, listener.Close(), metrics.Close())
	}
	defer func() { err = errors.Join(err, caught.close()) }()
	settings := app.Settings{
		Mail:                              caught.settings,
		Workers:                           devWorkers,
		OffboardingWait:                   devWait,
		Outbound:                          egress.Loopback(),
		Blobs:                             kept.store,
		Backups:                           kept.backups,
		MaintenanceURL:                    sensitive.New(server.URL(devDatabase)),
		DatabaseURL:                       serviceURL,
		MasterKey:                         masterKey,
		PublicURL:                         "http://" + listener.Addr().String(),
		Password:                          password.DefaultParameters(),
		OperatorsMayDoWithoutSecondFactor: true,
		Clock:                             clock.System(),
		Log:                               log,
	}
	log.Info(
		"webhooks may go to this machine, also without TLS; outside dev they go to public addresses by https alone",
		"networks",
		settings.Outbound.Allowed,
	)
	service, err := app.Open(s.context, settings)
	if err != nil {
		return errors.Join(err, listener.Close(), metrics.Close())
	}
	select { // a database that was put back by hand is behind its ledger for a moment
	case <-service.Opened():
	case <-s.context.Done():
		return errors.Join(listener.Close(), metrics.Close(), service.Close())
	}
	seeded, err := seed(s.context, service, filepath.Join(dir, "dev.json"))
	if err != nil {
		return errors.Join(err, listener.Close(), metrics.Close(), service.Close())
	}
	document := devDocument{
		BaseURL:     settings.PublicURL,
		MetricsURL:  "http://" + metrics.Addr().String() + "/metrics",
		MailboxURL:  caught.url,
		DatabaseURL: server.URL(devDatabase),
		Customers:   seeded.Customers,
		Operator:    seeded.Operator,
		Env: map[string]string{
			"STEWARD_DATABASE_URL":             serviceURL.Reveal(),
			"STEWARD_MASTER_KEY":               masterKey.Reveal(),
			"STEWARD_PUBLIC_URL":               settings.PublicURL,
			"STEWARD_OUTBOUND_NETWORKS":        outboundNetworks(settings.Outbound),
			"STEWARD_OFFBOARDING_WAIT":         devWait.String(),
			"STEWARD_OPERATOR_SECOND_FACTOR":   "optional",
			"STEWARD_SMTP_URL":                 caught.smtpURL,
			"STEWARD_MAIL_FROM":                caught.settings.From,
			"STEWARD_BLOB_URL":                 kept.blobURL,
			"STEWARD_BACKUP_DATABASE_URL":      backupURL.Reveal(),
			"STEWARD_BACKUP_RECIPIENTS":        kept.recipient,
			"STEWARD_BACKUP_IDENTITY_FILE":     kept.identityFile,
			"STEWARD_MAINTENANCE_DATABASE_URL": server.URL(devDatabase),
		},
	}
	if c.JSON {
		err = s.print(document)
	} else {
		document.welcome(s)
	}
	if err != nil {
		return errors.Join(err, listener.Close(), metrics.Close(), service.Close())
	}
	return serve(s.context, service, listener, metrics, 10*time.Second, log)
}

// startDatabase chooses the data folder and starts the database. In the default folder, a second
// dev uses the one beside the first.
func (c devCommand) startDatabase(ctx context.Context, log *slog.Logger) (dir string, server *devpg.Server, err error) {
	if c.Ephemeral {
		if c.Data != "" {
			return "", nil, errors.New("--data and --ephemeral exclude each other")
		}
		if dir, err = os.MkdirTemp("", "steward-dev-"); err != nil {
			return "", nil, err
		}
		server, err = devpg.Start(ctx, devpg.Options{Dir: dir, Purpose: devpg.Dev, Ephemeral: true, Log: log})
		if err != nil {
			return "", nil, errors.Join(err, os.RemoveAll(dir))
		}
		return dir, server, nil
	}
	if c.Data != "" {
		if dir, err = filepath.Abs(c.Data); err != nil {
			return "", nil, err
		}
		server, err = devpg.Start(ctx, devpg.Options{Dir: dir, Purpose: devpg.Dev, Log: log})
		return dir, server, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", nil, fmt.Errorf("no cache folder for the database; name a folder with --data: %w", err)
	}
	for sibling := 1; sibling <= devSiblings; sibling++ {
		dir = filepath.Join(cache, "steward", "dev")
		if sibling > 1 {
			dir += "-" + strconv.Itoa(sibling)
		}
		server, err = devpg.Start(ctx, devpg.Options{Dir: dir, Purpose: devpg.Dev, Log: log})
		if !errors.Is(err, devpg.ErrInUse) {
			return dir, server, err
		}
	}
	return "", nil, fmt.Errorf("%d run already: %w", devSiblings, err)
}

// prepareDatabase creates the database and the role of the service if they are missing, and
// migrates the schema.
func prepareDatabase(ctx context.Context, server *devpg.Server) (serviceURL, backupURL sensitive.String, err error) {
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		return serviceURL, backupURL, err
	}
	defer conn.Close(ctx)
	var exists bool
	if err := conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", devDatabase).
		Scan(&exists); err != nil {
		return serviceURL, backupURL, err
	}
	if !exists {
		if _, err := conn.Exec(ctx, "create database "+devDatabase); err != nil {
			return serviceURL, backupURL, err
		}
	}
	if _, err := postgres.MigrateUp(ctx, sensitive.New(server.URL(devDatabase))); err != nil {
		return serviceURL, backupURL, err
	}
	_, err = conn.Exec(ctx, `
		do $$ begin
			if not exists (select from pg_roles where rolname = '`+devRole+`') then
				create role `+devRole+` login noinherit;
			end if;
			grant steward_app, steward_platform, steward_worker, steward_offboarder to `+devRole+`;
			if not exists (select from pg_roles where rolname = '`+devBackup+`') then
				create role `+devBackup+` login bypassrls in role pg_read_all_data;
			end if;
		end $$`)
	if err != nil {
		return serviceURL, backupURL, err
	}
	config, err := pgx.ParseConfig(server.URL(devDatabase))
	if err != nil {
		return serviceURL, backupURL, err
	}
	as := func(role string) sensitive.String {
		return sensitive.New(
			fmt.Sprintf(
				"postgres://%s@/%s?host=%s&port=%d&sslmode=disable",
				role,
				devDatabase,
				config.Host,
				config.Port,
			),
		)
	}
	return as(devRole), as(devBackup), nil
}

// devKept is what dev keeps beside its database, and its backups.
type devKept struct {
	store        blob.Store
	blobURL      string
	backups      backup.Settings
	recipient    string
	identityFile string
}

// prepareKept creates the object store and the keys of the backups, or loads those of an earlier
// run. In production the identity would be kept elsewhere.
func prepareKept(
	ctx context.Context,
	dir string,
	server *devpg.Server,
	backupURL sensitive.String,
) (kept devKept, err error) {
	if kept.blobURL, err = blobsBeside(ctx, dir, server); err != nil {
		return kept, err
	}
	if kept.store, err = blob.Open(blob.Settings{URL: kept.blobURL}); err != nil {
		return kept, err
	}
	kept.identityFile = filepath.Join(dir, "backup.key")
	content, err := os.ReadFile(kept.identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		_, identity, errMake := backup.NewKey()
		content = []byte(identity.Reveal() + "\n")
		err = errors.Join(errMake, writeWhole(kept.identityFile, content))
	}
	if err != nil {
		return kept, err
	}
	if kept.recipient, err = backup.RecipientOf(string(content)); err != nil {
		return kept, fmt.Errorf("%s: %w", kept.identityFile, err)
	}
	kept.backups, err = backupSettings{
		BackupRecipients:  []string{kept.recipient},
		BackupDatabaseURL: backupURL,
		BackupDays:        35,
		BackupEvery:       24 * time.Hour,
	}.read()
	return kept, err
}

// blobsBeside names the folder of the objects of this database: another database in the same folder
// has its own. What dev keeps need not survive a power failure.
func blobsBeside(ctx context.Context, dir string, server *devpg.Server) (string, error) {
	conn, err := pgx.Connect(ctx, server.URL(devDatabase))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var which string
	err = conn.QueryRow(ctx, "select (select system_identifier from pg_control_system())::text || '-' || oid::text from pg_database where datname = current_database()").
		Scan(&which)
	folder := url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(dir, "blobs", which)), RawQuery: "sync=off"}
	return folder.String(), err
}

// keepMasterKey loads the master key of an earlier run or creates one.
func keepMasterKey(file string) (sensitive.String, error) {
	content, err := os.ReadFile(file)
	if err == nil {
		return sensitive.New(string(content)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return sensitive.String{}, err
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: the program ends instead, since Go 1.24
	text := base64.StdEncoding.EncodeToString(key)
	return sensitive.New(text), writeWhole(file, []byte(text))
}

// writeWhole writes a private file atomically.
func writeWhole(file string, content []byte) error {
	beside, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return err
	}
	_, err = beside.Write(content)
	err = errors.Join(err, beside.Sync(), beside.Close())
	if err == nil {
		err = os.Rename(beside.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(beside.Name()))
	}
	return nil
}

func (c devCommand) listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", c.Addr)
	if errors.Is(err, syscall.EADDRINUSE) && c.Addr == devAddr {
		return net.Listen("tcp", "127.0.0.1:0")
	}
	return listener, err
}

// devDocument is what a program needs to use a dev service.
type devDocument struct {
	BaseURL     string            `json:"base_url"`
	MetricsURL  string            `json:"metrics_url"`
	MailboxURL  string            `json:"mailbox_url"`
	DatabaseURL string            `json:"database_url"`
	Customers   []devCustomer     `json:"customers"`
	Operator    devPerson         `json:"operator"`
	Env         map[string]string `json:"env"`
}

type devCustomer struct {
	Slug   string    `json:"slug"`
	Admin  devPerson `json:"admin"`
	User   devPerson `json:"user"`
	APIKey string    `json:"api_key"`
}

type devPerson struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

func (d devDocument) welcome(s surroundings) {
	fmt.Fprintf(s.out, "\nSteward is at %s\n\n", d.BaseURL)
	fmt.Fprintf(s.out, "  read and try the API   %s/docs\n", d.BaseURL)
	fmt.Fprintf(s.out, "  mails that it sends    %s\n", d.MailboxURL)
	fmt.Fprintf(s.out, "  metrics                %s\n", d.MetricsURL)
	fmt.Fprintf(s.out, "  webhooks               may go to this machine too, as http://localhost:...\n")
	fmt.Fprintf(s.out, "  look into the database psql '%s'\n\n", d.DatabaseURL)
	row := func(customer, role, email, password string) {
		fmt.Fprintf(s.out, "  %-10s %-14s %-28s %s\n", customer, role, email, password)
	}
	row("customer", "role", "e-mail", "password")
	for _, one := range d.Customers {
		row(one.Slug, "administrator", one.Admin.Email, one.Admin.Password)
		row(one.Slug, "user", one.User.Email, one.User.Password)
	}
	row("fusions", "operator", d.Operator.Email, d.Operator.Password)
	fmt.Fprintln(s.out)
	for _, one := range d.Customers {
		fmt.Fprintf(s.out, "  API key of %-10s %s\n", one.Slug, one.APIKey)
	}
	fmt.Fprintf(s.out, "\nStop with Ctrl-C.\n\n")
}

// outboundNetworks formats the egress policy as the setting of serve.
func outboundNetworks(policy egress.Policy) string {
	texts := make([]string, len(policy.Allowed))
	for i, network := range policy.Allowed {
		texts[i] = network.String()
	}
	return strings.Join(texts, ",")
}

// readSeed loads the credentials of an earlier run. A missing or broken file counts as none.
func readSeed(file string) (seeded seedDocument) {
	content, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(content, &seeded) != nil {
		return seedDocument{}
	}
	return seeded
}
