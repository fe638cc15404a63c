package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/dev/devmail"
	"github.com/fusionspim/steward/internal/infra/mail"
)

// mailbox catches the mails of dev and shows them to users of this machine.
type mailbox struct {
	server   *devmail.Server
	pages    *http.Server
	settings *mail.Settings
	smtpURL  string
	url      string
}

func openMailbox(ctx context.Context, log *slog.Logger) (*mailbox, error) {
	// It outlives the context, to catch the service's last mails.
	server, err := devmail.Start(context.WithoutCancel(ctx), log)
	if err != nil {
		return nil, err
	}
	settings, err := mail.ParseURL(sensitive.New(server.SMTPURL()))
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	settings.From = "Steward <no-reply@steward.example>"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	opened := &mailbox{
		server:   server,
		settings: &settings,
		smtpURL:  server.SMTPURL(),
		url:      "http://" + listener.Addr().String() + "/",
		pages: &http.Server{
			Handler:           ofThisMachine(server.Handler(), listener.Addr().String()),
			ReadHeaderTimeout: 5 * time.Second,
			WriteTimeout:      30 * time.Second,
		},
	}
	go func() {
		if err := opened.pages.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the mailbox cannot be read any more", "error", err)
		}
	}()
	return opened, nil
}

func (m *mailbox) close() error { return errors.Join(m.pages.Close(), m.server.Close()) }

// ofThisMachine serves only under its own address, so that no web page reaches the mailbox through
// a name that resolves here.
func ofThisMachine(next http.Handler, address string) http.Handler {
	_, port, _ := net.SplitHostPort(address)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != address && r.Host != net.JoinHostPort("localhost", port) {
			http.Error(w, "The mailbox is at http://"+address+"/ only.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
