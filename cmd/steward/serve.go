package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/fusionspim/steward/internal/account/passwordlink"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/egress"
	"github.com/fusionspim/steward/internal/infra/password"
)

// serveCommand runs one replica.
type serveCommand struct {
	databaseSettings `embed:""`
	logSettings      `embed:""`
	mailSettings     `embed:""`
	blobSettings     `embed:""`
	backupSettings   `embed:""`

	maintenanceSettings `embed:""`

	MasterKey      sensitive.String `name:"master-key" env:"STEWARD_MASTER_KEY" placeholder:"KEY" help:"Master key: 32 random bytes in base64, the same for all replicas (openssl rand -base64 32)."`
	MasterKeyFile  string           `name:"master-key-file" env:"STEWARD_MASTER_KEY_FILE" placeholder:"FILE" help:"File with the master key."`
	HTTPAddr       string           `name:"http-addr" env:"STEWARD_HTTP_ADDR" default:"127.0.0.1:8080" help:"Address to listen on for requests."`
	MetricsAddr    string           `name:"metrics-addr" env:"STEWARD_METRICS_ADDR" default:"127.0.0.1:9090" help:"Address to listen on for metrics; keep it private."`
	PublicURL      string           `name:"public-url" env:"STEWARD_PUBLIC_URL" required:"" placeholder:"URL" help:"Base URL of the service for clients, such as https://steward.example; the same for all replicas."`
	TrustedProxies []string         `name:"trusted-proxies" env:"STEWARD_TRUSTED_PROXIES" placeholder:"CIDR,..." help:"Networks of proxies whose X-Forwarded-For is trusted. Default: none."`
	AllowedOrigins []string         `name:"allowed-origins" env:"STEWARD_ALLOWED_ORIGINS" placeholder:"ORIGIN,..." help:"Origins of frontends that may call the API from a browser, such as https://acme.example. Default: none."`
	Outbound       []string         `name:"outbound-networks" env:"STEWARD_OUTBOUND_NETWORKS" placeholder:"CIDR,..." help:"Private networks that webhooks may be sent to, such as 10.20.0.0/16. Default: none."`
	OperatorFactor string           `name:"operator-second-factor" env:"STEWARD_OPERATOR_SECOND_FACTOR" enum:"required,optional" default:"required" help:"Second factor of operators: required or optional."`
	MaxConnections int              `name:"max-connections" env:"STEWARD_MAX_CONNECTIONS" default:"16" help:"Maximum database connections, besides 4 for housekeeping."`
	PasswordMemory uint32           `name:"password-memory" env:"STEWARD_PASSWORD_MEMORY" default:"47104" help:"Memory of one password hash (Argon2id) in KiB."`
	PasswordPasses uint32           `name:"password-passes" env:"STEWARD_PASSWORD_PASSES" default:"1" help:"Passes of one password hash over its memory."`
	Offboarding    time.Duration    `name:"offboarding-wait" env:"STEWARD_OFFBOARDING_WAIT" default:"720h" help:"Time from the approval of an offboarding to the deletion, in which it can be cancelled."`
	StartTimeout   time.Duration    `name:"start-timeout" env:"STEWARD_START_TIMEOUT" default:"60s" help:"Time to wait for the database at startup."`
	StopTimeout    time.Duration    `name:"stop-timeout" env:"STEWARD_STOP_TIMEOUT" default:"30s" help:"Time for requests in flight to finish at shutdown."`
}

// Help implements kong.HelpProvider.
func (serveCommand) Help() string {
	return `Migrate the database with "steward migrate up" first. Any number of replicas may serve one database; they
share the master key and the public URL. Whatever the connection's own privileges, the service takes the
roles steward_app, steward_platform, steward_worker and steward_offboarder.`
}

// Run serves until the process is signalled to stop.
func (c serveCommand) Run(s surroundings) error {
	settings, err := c.settings(s)
	if err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(s.context, c.StartTimeout)
	defer cancel()
	probed := make(chan error, 1)
	go func() { // beside the rest, which takes longer
		unfit := probe(starting, settings.Blobs, settings.Log)
		if unfit != nil {
			cancel()
		}
		probed <- unfit
	}()
	service, err := app.WaitForDatabase(starting, settings)
	if err != nil {
		cancel()
	}
	if unfit := <-probed; unfit != nil {
		if service != nil {
			return errors.Join(unfit, service.Close())
		}
		if errors.Is(starting.Err(), context.DeadlineExceeded) { // both stayed away
			return errors.Join(unfit, err)
		}
		return unfit
	}
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.HTTPAddr)
	if err != nil {
		return errors.Join(fmt.Errorf("STEWARD_HTTP_ADDR: %w", err), service.Close())
	}
	metrics, err := net.Listen("tcp", c.MetricsAddr)
	if err != nil {
		return errors.Join(fmt.Errorf("STEWARD_METRICS_ADDR: %w", err), listener.Close(), service.Close())
	}
	settings.Log.Info(
		"serving",
		"address",
		listener.Addr().String(),
		"metrics",
		metrics.Addr().String(),
		"public_url",
		c.PublicURL,
	)
	return serve(s.context, service, listener, metrics, c.StopTimeout, settings.Log)
}

// probe verifies that the object store keeps what is written and never overwrites. It waits for an
// unavailable store, as for the database.
func probe(ctx context.Context, store blob.Store, log *slog.Logger) error {
	for first := true; ; first = false {
		err := blob.Probe(ctx, store, "probe/"+strings.ToLower(rand.Text()))
		if err == nil {
			return nil
		}
		err = fmt.Errorf("STEWARD_BLOB_URL: the store of objects cannot be used: %w", err)
		if errors.Is(err, blob.ErrUnfit) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			return err
		}
		if first && ctx.Err() == nil {
			log.Warn("the store of objects cannot be written to; trying again every second", "error", err)
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) { // the start is given up for another reason
				return nil
			}
			return err
		case <-time.After(time.Second):
		}
	}
}

func (c serveCommand) settings(s surroundings) (app.Settings, error) {
	log := c.logger(s.err)
	databaseURL, err := c.url()
	if err != nil {
		return app.Settings{}, err
	}
	masterKey, err := secret("STEWARD_MASTER_KEY", c.MasterKey, c.MasterKeyFile)
	if err != nil {
		return app.Settings{}, err
	}
	if err := checkPublicURL(c.PublicURL); err != nil {
		return app.Settings{}, err
	}
	proxies, err := parseProxies(c.TrustedProxies)
	if err != nil {
		return app.Settings{}, err
	}
	outbound, err := egress.ParsePolicy(c.Outbound)
	if err != nil {
		return app.Settings{}, fmt.Errorf("STEWARD_OUTBOUND_NETWORKS: %w", err)
	}
	if len(outbound.Allowed) > 0 {
		log.Warn("webhooks may go to networks that are not public", "networks", outbound.Allowed)
	}
	if _, err := passwordlink.ParsePage(c.PasswordPageURL, c.PublicURL); err != nil {
		return app.Settings{}, fmt.Errorf("STEWARD_PASSWORD_PAGE_URL: %w", err)
	}
	if c.Offboarding < time.Minute {
		return app.Settings{}, errors.New("STEWARD_OFFBOARDING_WAIT must be a minute at least, such as 720h")
	}
	sending, err := c.sending()
	if err != nil {
		return app.Settings{}, err
	}
	if sending == nil {
		log.Warn("no mail is sent: nobody is invited, and no password is reset by mail")
	}
	store, err := c.store()
	if err != nil {
		return app.Settings{}, err
	}
	backups, err := c.backupSettings.read()
	if err != nil {
		return app.Settings{}, err
	}
	maintenance, err := c.maintenance()
	if err != nil {
		return app.Settings{}, err
	}
	return app.Settings{
		Blobs:                             store,
		Backups:                           backups,
		MaintenanceURL:                    maintenance,
		Mail:                              sending,
		PasswordPage:                      c.PasswordPageURL,
		Workers:                           c.Workers,
		Outbound:                          outbound,
		OffboardingWait:                   c.Offboarding,
		DatabaseURL:                       databaseURL,
		MaxConnections:                    c.MaxConnections,
		MasterKey:                         masterKey,
		PublicURL:                         c.PublicURL,
		TrustedProxies:                    proxies,
		AllowedOrigins:                    c.AllowedOrigins,
		OperatorsMayDoWithoutSecondFactor: c.OperatorFactor == "optional",
		Password: password.Parameters{
			MemoryKiB:   c.PasswordMemory,
			Iterations:  c.PasswordPasses,
			Parallelism: 1,
		},
		Clock: clock.System(),
		Log:   log,
	}, nil
}

// serve answers requests until the context ends, drains those in flight, and closes the service.
func serve(
	ctx context.Context,
	service *app.App,
	listener, metricsListener net.Listener,
	grace time.Duration,
	log *slog.Logger,
) error {
	public := &http.Server{
		Handler:           service.API,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	public.RegisterOnShutdown(service.Imports.Close) // a long one would outlast the grace
	private := &http.Server{
		Handler:           service.Metrics(),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      30 * time.Second,
	}
	failed := make(chan error, 2)
	go func() { failed <- public.Serve(listener) }()
	go func() { failed <- private.Serve(metricsListener) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	return errors.Join(err, public.Shutdown(stopping), private.Shutdown(stopping), service.Close())
}
