// Package app puts the parts of the service together.
//
// Owns: which part is made of which, the order in which they start and stop, and the work that goes on in the background of each replica.
// Does not own: where settings come from (cmd/steward) and what any part does.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fusionspim/steward"
	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/operator"
	"github.com/fusionspim/steward/internal/account/passwordlink"
	"github.com/fusionspim/steward/internal/account/secondfactor"
	"github.com/fusionspim/steward/internal/account/session"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/account/userimport"
	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/compliance/offboarding"
	"github.com/fusionspim/steward/internal/compliance/replay"
	"github.com/fusionspim/steward/internal/compliance/subjectrequest"
	"github.com/fusionspim/steward/internal/compliance/trail"
	"github.com/fusionspim/steward/internal/edge/httpapi"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/contract"
	"github.com/fusionspim/steward/internal/infra/egress"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/infra/password"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/ratelimit"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/integration/alert"
	"github.com/fusionspim/steward/internal/integration/webhook"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/backup"
	"github.com/fusionspim/steward/internal/record/event"
	"github.com/fusionspim/steward/internal/record/ledger"
	"github.com/fusionspim/steward/internal/record/receipt"
	"github.com/fusionspim/steward/internal/record/signingkey"
)

const (
	keysEvery     = 30 * time.Second // how soon a signing key that another replica made is known here
	sealEvery     = 500 * time.Millisecond
	alertsEvery   = 2 * time.Second // how soon an alert is taken up whose mails are to be tried again
	endsEvery     = 2 * time.Second // how soon what is due of an offboarding is done
	sweepEvery    = 10 * time.Minute
	receiptsEvery = 3 * time.Second
)

// Settings of one replica.
type Settings struct {
	DatabaseURL                       sensitive.String
	MaxConnections                    int
	MasterKey                         sensitive.String
	PublicURL                         string
	TrustedProxies                    []netip.Prefix
	AllowedOrigins                    []string // of frontends that browsers may call the API from
	OperatorsMayDoWithoutSecondFactor bool     // for dev alone
	Password                          password.Parameters
	Mail                              *mail.Settings   // nil: no mail is sent
	PasswordPage                      string           // where mailed links lead to; empty: the service's own page
	Outbound                          egress.Policy    // what may be dialled besides the public Internet
	Blobs                             blob.Store       // what is kept outside the database; nil: nothing is
	Backups                           backup.Settings  // of the database
	MaintenanceURL                    sensitive.String // of a user that owns the tables, for vacuuming after erasures; empty: receipts stay pending
	OffboardingWait                   time.Duration    // from its approval to the deletion; 0: 30 days
	Workers                           int              // jobs that this replica works on at once; 0: it leaves them to others
	Clock                             clock.Clock
	Log                               *slog.Logger
}

// App is one replica of the service.
type App struct {
	httpapi.Features
	DB        *postgres.DB
	Hasher    *password.Hasher
	API       *httpapi.Server
	Registry  *prometheus.Registry
	Sequencer *audit.Sequencer

	box    *seal.Box
	keys   *token.Keyring
	sender *mail.Sender  // nil: no mail is sent
	crew   *jobs.Workers // nil: this replica works no jobs off
	desk   *jobs.Admin
	log    *slog.Logger
	stop   context.CancelFunc
	work   sync.WaitGroup

	ledger   *ledger.Ledger
	replayed *replayMetrics
	presence *postgres.ReplicaLock // nil: not opened yet
	workers  int
	opened   chan struct{}
	stores   []postgres.Store
	running  bool // what goes on in the background was started
}

// Open makes a replica, checks that its database is the one that it knows, and starts its work in the background. Where the database is behind the ledger, the replica is closed
// to requests until what is missing is carried out, which goes on in the background: Opened tells when. Close ends it.
func Open(ctx context.Context, settings Settings) (app *App, err error) {
	go Contract() //nolint:errcheck // it is read while the database is asked, and asked for below
	box, err := seal.ParseMasterKey(settings.MasterKey)
	if err != nil {
		return nil, err
	}
	if settings.Blobs == nil {
		return nil, errors.New("app: there is no store of objects")
	}
	hasher, err := password.NewHasher(settings.Password, password.Options{})
	if err != nil {
		return nil, err
	}
	db, err := postgres.Open(postgres.Settings{URL: settings.DatabaseURL, MaxConnections: settings.MaxConnections}, settings.Clock, settings.Log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	if err := db.CheckSchema(ctx); err != nil {
		return nil, err
	}
	if err := db.CheckRoles(ctx); err != nil {
		return nil, err
	}
	keys := token.NewKeyring()
	if err := session.LoadKeys(ctx, db, box, keys); err != nil {
		return nil, err
	}
	authority, err := token.New(token.Settings{Issuer: settings.PublicURL, Audience: settings.PublicURL}, keys, settings.Clock)
	if err != nil {
		return nil, err
	}
	mailing, err := newMailing(settings)
	if err != nil {
		return nil, err
	}
	queue, err := jobs.NewQueue()
	if err != nil {
		return nil, err
	}
	book := ledger.New(settings.Blobs, box, settings.Clock, settings.Log)
	defer func() {
		if err != nil {
			book.Close()
		}
	}()
	desk, err := jobs.OpenAdmin(ctx, db)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, desk.Close())
		}
	}()
	customers, limiter := customer.NewService(db), ratelimit.NewLimiter(db, box)
	stores := Stores()
	settings.Backups.Stores = stores
	backups := backup.NewService(db, backup.Vault{Store: settings.Blobs, Box: box}, queue, book, settings.Backups, settings.Log)
	if lacking := backups.MissingConfig(); lacking != nil {
		settings.Log.Warn("this replica makes no backups", "reason", lacking)
	}
	links := passwordlink.NewService(db, customers, hasher, limiter, queue, book, mailing)
	alerts := alert.NewService(db, queue, box, book, alert.Mailing{Mailing: mailing.Mailing, PublicURL: strings.TrimRight(settings.PublicURL, "/")})
	registry := prometheus.NewRegistry()
	attempts, err := newWebhookMetrics(registry)
	if err != nil {
		return nil, err
	}
	webhooks := webhook.NewService(db, box, limiter, queue, webhook.Settings{Policy: settings.Outbound, Mailing: mailing.Mailing, Observe: attempts.observe}, settings.Log)
	secondFactors := secondfactor.NewService(db, box, hasher, book, !settings.OperatorsMayDoWithoutSecondFactor, session.EndOthersTx)
	issuer := receipt.NewIssuer(signingkey.NewStore(db, box, signingkey.Receipt, settings.Blobs), settings.PublicURL)
	if err := issuer.LoadKeys(ctx); err != nil {
		return nil, err
	}
	users := user.NewService(user.Dependencies{
		DB: db, Ledger: book, Box: box, Backups: backups, Receipts: issuer, Invite: links.InviteTx,
		Stores: stores,
	})
	trails, err := trail.NewService(db, box, queue, settings.Blobs, settings.PublicURL, mailing.Mailing)
	if err != nil {
		return nil, err
	}
	requests := subjectrequest.NewService(db, customers, users, box, book, queue, mailing.Mailing, stores)
	offboardings := offboarding.NewService(offboarding.Dependencies{
		DB: db, Customers: customers, Box: box, Objects: settings.Blobs, Ledger: book, Queue: queue, Mailing: mailing.Mailing,
		Backups: backups, Receipts: issuer, Wait: settings.OffboardingWait, Stores: stores, Log: settings.Log,
	})
	receipts := receipt.NewService(receipt.Dependencies{
		DB: db, Issuer: issuer, Backups: backups, Maintenance: settings.MaintenanceURL, Customers: offboardings,
		PeopleTables:   inventory.Vacuumed(stores),
		CustomerTables: inventory.VacuumedAfterLeaving(stores),
	})
	if lacking := receipts.MissingConfig(); lacking != nil {
		settings.Log.Warn("erasure receipts stay pending: this replica cannot vacuum what erasures leave behind", "reason", lacking)
	}
	app = &App{
		Features: httpapi.Features{
			Customers:     customers,
			Users:         users,
			Receipts:      receipts,
			Requests:      requests,
			Sessions:      session.NewService(db, customers, secondFactors, hasher, authority, limiter, links.ChangedTx, settings.Log),
			SecondFactors: secondFactors,
			PasswordLinks: links,
			Operators:     operator.NewService(db, desk, links),
			Offboardings:  offboardings,
			APIKeys:       apikey.NewService(db, limiter, book),
			Audit:         audit.NewService(db),
			Backups:       backups,
			Alerts:        alerts,
			Imports:       userimport.NewService(db, users),
			Trail:         trails,
			Events:        event.NewService(db),
			Webhooks:      webhooks,
		},
		DB: db, Hasher: hasher, Registry: registry, Sequencer: audit.NewSequencer(db, event.Derive(webhook.WakeTx)), box: box, keys: keys, sender: mailing.Sender, desk: desk, log: settings.Log,
		ledger: book, workers: settings.Workers, opened: make(chan struct{}), stores: stores,
	}
	app.Replays = replay.New(db, customers, app.Users, links, offboardings, queue, mailing.Mailing, stores)
	if app.replayed, err = newReplayMetrics(registry); err != nil {
		return nil, err
	}
	app.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newQueueMetrics(desk, settings.Log))
	checked, err := Contract()
	if err != nil {
		return nil, err
	}
	app.API, err = httpapi.New(app.Features, httpapi.Settings{PublicURL: settings.PublicURL, TrustedProxies: settings.TrustedProxies, AllowedOrigins: settings.AllowedOrigins},
		checked, db, box, keys, settings.Log, app.Registry)
	if err != nil {
		return nil, err
	}
	app.Registry.MustRegister(backupMetrics{backups}, receiptMetrics{receipts, settings.Clock})
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	app.stop = stop
	if err := app.begin(background); err != nil {
		stop()
		return nil, err
	}
	return app, nil
}

// start starts what a replica that is open does in the background.
func (a *App) start(ctx context.Context) (err error) {
	work := jobs.Work{
		Handlers: slices.Concat(
			a.PasswordLinks.Handlers(),
			a.Alerts.Handlers(),
			a.Trail.Handlers(),
			a.Webhooks.Handlers(),
			a.Backups.Handlers(),
			a.Requests.Handlers(),
			a.Offboardings.Handlers(),
			a.Replays.Handlers(),
			a.Receipts.Handlers(),
		),
		Periodic: slices.Concat(
			a.Trail.Periodic(),
			a.Backups.Periodic(),
			a.Requests.Periodic(),
			a.Receipts.Periodic(),
		),
	}
	if a.workers > 0 {
		if a.crew, err = jobs.Start(ctx, a.DB, a.workers, a.log, work); err != nil {
			return err
		}
	}
	a.every(ctx, keysEvery, "loading the signing keys", a.ReloadKeys)
	a.every(ctx, sealEvery, "numbering the entries of the trail", a.Sequencer.Sequence)
	a.every(ctx, sweepEvery, "dropping what is past its time", a.Sweep)
	if a.workers > 0 {
		a.work.Go(func() { a.Webhooks.Dispatch(ctx) })
		a.every(ctx, alertsEvery, "taking up alerts", a.Alerts.PickUpDue)
		a.every(ctx, endsEvery, "looking after offboardings", a.Offboardings.RunDue)
		a.every(ctx, receiptsEvery, "bringing erasure receipts forward", a.Receipts.Tend)
	}
	a.every(ctx, compareEvery, "comparing the database with the ledger", a.CompareLedger)
	return nil
}

// ReloadKeys brings the signing keys from the database, as the replica does by itself now and then.
func (a *App) ReloadKeys(ctx context.Context) error {
	return errors.Join(session.LoadKeys(ctx, a.DB, a.box, a.keys), a.Receipts.LoadKeys(ctx))
}

// Metrics answers with the metrics of this replica, for an address that only the monitoring reaches.
func (a *App) Metrics() http.Handler {
	return promhttp.HandlerFor(a.Registry, promhttp.HandlerOpts{})
}

// every does something now and then until the replica closes. A failure is logged; the next time may go better.
func (a *App) every(ctx context.Context, interval time.Duration, what string, do func(context.Context) error) {
	a.work.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if err := do(ctx); err != nil && ctx.Err() == nil {
					a.log.Error("work in the background failed", "work", what, "error", err)
				}
			}
		}
	})
}

// Close ends the work in the background and the connections. Requests must have ended before.
func (a *App) Close() error {
	a.stop()
	a.work.Wait()
	a.Sessions.Close()
	var err error
	if a.crew != nil {
		err = a.crew.Stop()
	}
	a.ledger.Close()
	if a.presence != nil {
		err = errors.Join(err, a.presence.Close())
	}
	if a.sender != nil {
		err = errors.Join(err, a.sender.Close())
	}
	return errors.Join(err, a.desk.Close(), a.DB.Close())
}

// Contract is openapi.yaml, read once for the process, however many replicas are in it.
func Contract() (*contract.Contract, error) { return loadContract() }

var loadContract = sync.OnceValues(func() (*contract.Contract, error) { return contract.Load(steward.Contract) })

// newMailing makes what mails are sent with.
func newMailing(settings Settings) (mailing passwordlink.Mailing, err error) {
	if mailing.Page, err = passwordlink.ParsePage(settings.PasswordPage, settings.PublicURL); err != nil || settings.Mail == nil {
		return mailing, err
	}
	public, err := url.Parse(settings.PublicURL)
	if err != nil {
		return mailing, err
	}
	if mailing.Domain = public.Hostname(); strings.Contains(mailing.Domain, ":") { // an address of IPv6, which only development uses
		mailing.Domain = "localhost"
	}
	mailing.Sender, err = mail.NewSender(*settings.Mail, settings.Clock)
	return mailing, err
}

// WaitForDatabase opens a replica and keeps trying while the database is away, until the context ends: a service and its database are often started
// together. Every other error returns at once.
func WaitForDatabase(ctx context.Context, settings Settings) (*App, error) {
	for attempt := 0; ; attempt++ {
		app, err := Open(ctx, settings)
		if !fault.Is(err, fault.ServiceUnavailable) {
			return app, err
		}
		if attempt%10 == 0 {
			settings.Log.Warn("the database or the store of objects is away; trying again every second", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("app: the database, or the store of objects, stayed away: %w", err)
		case <-time.After(time.Second):
		}
	}
}
