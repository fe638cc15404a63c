package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fusionspim/steward/internal/testkit/bench"
	"github.com/fusionspim/steward/internal/testkit/bench/smtpsink"
)

// grace is how long after somebody's leaving a mail may come that was being sent at that moment:
// the time for which an address is fresh, and for one mail.
const grace = 4 * time.Second

// figures are what an alert run counted.
type figures struct {
	Alerts     int     `json:"alerts"`
	Deliveries int     `json:"deliveries"`
	Sent       int     `json:"sent"`
	Failed     int     `json:"failed"`
	Skipped    int     `json:"skipped"`
	Mails      int     `json:"mails"`   // that the mail server took
	Repeats    int     `json:"repeats"` // of them, with the Message-ID of another
	Spoilt     int     `json:"spoilt"`  // attempts that the mail server spoilt
	Kills      int     `json:"kills"`
	OptedOut   int     `json:"opted_out"`
	Redacted   int     `json:"redacted"`
	Seconds    float64 `json:"seconds"`     // from the first alert to the last settled delivery
	FirstTaken float64 `json:"first_taken"` // seconds until the mail server took the first mail
	LastTaken  float64 `json:"last_taken"`  // and the last
	PeakMiB    float64 `json:"peak_mib"`    // that the service had resident at most
	// deliveries that are not settled, or sent without a mail
	Lost       int `json:"lost"`
	Twice      int `json:"twice"`       // deliveries counted or recorded more than once
	AfterLeave int `json:"after_leave"` // mails to somebody who had left
	Unnamed    int `json:"unnamed"`     // repeats with another Message-ID
	Announced  int `json:"announced"`   // entries alert.sent in the trail
}

func (f figures) verdict() error {
	if f.Lost+f.Twice+f.AfterLeave+f.Unnamed > 0 || f.Announced != f.Alerts {
		return errors.New("the service did not keep what it promises")
	}
	return nil
}

func (f figures) print(out io.Writer) {
	fmt.Fprintf(
		out,
		"%d alerts, %d deliveries: %d sent, %d failed, %d skipped\n",
		f.Alerts,
		f.Deliveries,
		f.Sent,
		f.Failed,
		f.Skipped,
	)
	fmt.Fprintf(
		out,
		"%d mails taken, %d of them repeats; %d attempts spoilt; %d times killed; %d opted out and %d redacted on the way\n",
		f.Mails,
		f.Repeats,
		f.Spoilt,
		f.Kills,
		f.OptedOut,
		f.Redacted,
	)
	fmt.Fprintf(
		out,
		"%.1f s until all was settled; mails taken from %.1f s to %.1f s; at most %.0f MiB\n",
		f.Seconds,
		f.FirstTaken,
		f.LastTaken,
		f.PeakMiB,
	)
	fmt.Fprintf(
		out,
		"lost %d, twice %d, to who had left %d, repeated under another id %d, announced %d of %d\n",
		f.Lost,
		f.Twice,
		f.AfterLeave,
		f.Unnamed,
		f.Announced,
		f.Alerts,
	)
}

// faults decides by the seed what becomes of an attempt.
func (s *scene) fault(spoilt *int, mu *sync.Mutex) func(recipient string, earlier int) smtpsink.Fault {
	return func(recipient string, earlier int) smtpsink.Fault {
		hash := fnv.New64a()
		_, _ = fmt.Fprint(hash, recipient, earlier) // to memory: does not fail
		random := rand.New(rand.NewPCG(s.seed, hash.Sum64()))
		if random.Float64() >= s.faults {
			return smtpsink.None
		}
		mu.Lock()
		*spoilt++
		mu.Unlock()
		switch chance := random.Float64(); {
		case chance < 0.45:
			return smtpsink.Greylist
		case chance < 0.85:
			return smtpsink.Drop
		case chance < 0.95:
			return smtpsink.Refuse
		}
		return smtpsink.Hang
	}
}

// alertRun raises the alerts, spoils everything, and counts.
func (s *scene) alertRun(ctx context.Context) (f figures, err error) {
	var mu sync.Mutex
	sink, err := smtpsink.Start(smtpsink.Settings{Fault: s.fault(&f.Spoilt, &mu)})
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	smtp := "smtp://" + sink.Address() + "?from=steward@steward.test&command_timeout=1s"
	service, err := s.start(ctx, smtp)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, service.end()) }()

	fmt.Fprintf(s.progress, "raising %d alerts for %d people\n", s.alerts, len(s.people))
	began := time.Now()
	for i := range s.alerts {
		severity := "critical"
		if i < 10 && s.alerts > 1 { // as many as nobody gets gathered
			severity = "error"
		}
		body := map[string]string{
			"severity": severity,
			"subject":  fmt.Sprintf("Alert %d", i),
			"body":     "The export to the channel web has failed.\n\n  12 products have no price.",
		}
		if err := s.call(ctx, service, "POST", "/v1/alerts", body, nil, 202); err != nil {
			return f, err
		}
	}
	f.Alerts = s.alerts
	left := make(map[string]time.Time) // address → when the service had said that it is done
	total := s.alerts * len(s.people)
	for round := range s.kills + 1 {
		// Some leave, then the service dies, each at another point of the run.
		if err := s.waitFor(
			ctx,
			"a share of the mails",
			func() (bool, error) { return sink.Count() >= total*(2*round+1)/(3*s.kills+4), nil },
		); err != nil {
			return f, err
		}
		if err := s.leaving(ctx, service, round, left, &f); err != nil {
			return f, err
		}
		if round == s.kills {
			break
		}
		if err := s.waitFor(
			ctx,
			"more mails",
			func() (bool, error) { return sink.Count() >= total*(2*round+2)/(3*s.kills+4), nil },
		); err != nil {
			return f, err
		}
		f.PeakMiB = max(f.PeakMiB, peakOf(service))
		fmt.Fprintf(s.progress, "killing the service after %d mails\n", sink.Count())
		if err := service.kill(); err != nil {
			return f, err
		}
		f.Kills++
		if service, err = s.start(ctx, smtp); err != nil {
			return f, err
		}
	}
	fmt.Fprintln(s.progress, "waiting until everything is settled")
	err = s.waitFor(ctx, "every alert", func() (bool, error) {
		var open int
		err := s.conn.QueryRow(ctx, "select count(*) from alerts where finished_at is null").Scan(&open)
		return open == 0, err
	})
	f.Seconds = time.Since(began).Seconds()
	f.PeakMiB = max(f.PeakMiB, peakOf(service))
	if err != nil {
		return f, err
	}
	return f, s.countAlerts(ctx, sink, began, left, &f)
}

func (s *scene) waitFor(ctx context.Context, what string, done func() (bool, error)) error {
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("waited in vain for %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// leaving opts some people out and redacts some others.
func (s *scene) leaving(ctx context.Context, service *process, round int, left map[string]time.Time, f *figures) error {
	share := s.leave / (s.kills + 1)
	for i := range share {
		for kind := range 2 {
			// The people are numbered as they were made; one in fifty was left out.
			number := (round*share+i)*2 + kind
			person := s.people[number]
			var found struct {
				Email string `json:"email"`
			}
			if err := s.call(ctx, service, "GET", "/v1/users/"+person.String(), nil, &found, 200); err != nil {
				return err
			}
			var err error
			if kind == 0 {
				err = s.call(
					ctx,
					service,
					"PUT",
					"/v1/users/"+person.String()+"/alerts",
					map[string]bool{"opted_in": false},
					nil,
					200,
				)
				f.OptedOut++
			} else {
				err = s.call(
					ctx,
					service,
					"POST",
					"/v1/users/"+person.String()+"/redaction",
					map[string]string{},
					nil,
					200,
				)
				f.Redacted++
			}
			if err != nil {
				return err
			}
			left[found.Email] = time.Now()
		}
	}
	return nil
}

// countAlerts compares what the service recorded with what the mail server took.
func (s *scene) countAlerts(
	ctx context.Context,
	sink *smtpsink.Sink,
	began time.Time,
	left map[string]time.Time,
	f *figures,
) error {
	var recorded int
	err := s.conn.QueryRow(ctx, `
		select sum(recipients), sum(sent), sum(failed), sum(skipped) from alerts`).Scan(&f.Deliveries, &f.Sent, &f.Failed, &f.Skipped)
	if err != nil {
		return err
	}
	if err := s.conn.QueryRow(ctx, "select count(*) from audit_entries where action = 'alert.sent'").
		Scan(&f.Announced); err != nil {
		return err
	}
	mails := sink.Mails()
	f.Mails = len(mails)
	ids := make(map[string]int, len(mails))
	perPerson := make(map[string]map[string]bool)
	for i, one := range mails {
		if i == 0 {
			f.FirstTaken = one.At.Sub(began).Seconds()
		}
		f.LastTaken = one.At.Sub(began).Seconds()
		ids[one.MessageID]++
		if perPerson[one.To] == nil {
			perPerson[one.To] = make(map[string]bool)
		}
		perPerson[one.To][one.MessageID] = true
		if gone, ok := left[one.To]; ok && one.At.After(gone.Add(grace)) {
			f.AfterLeave++
		}
	}
	f.Repeats = len(mails) - len(ids)
	for _, messages := range perPerson {
		f.Unnamed += max(0, len(messages)-s.alerts)
	}
	// Sent means that a mail was taken: there are as many different ones as deliveries that count
	// as sent, and those of which the answer was lost and that were then refused, or whose person
	// left before the repetition.
	f.Lost = max(0, f.Sent-len(ids))
	// Each alert was for everybody who was there and wanted it when it was fanned out, which was
	// before anybody left or after.
	err = s.conn.QueryRow(ctx, `
		select count(*) from alerts a where sent + failed + skipped + digested <> recipients
			or recipients > $1 or recipients < $1 - $2::bigint`, len(s.people), len(left)).Scan(&recorded)
	if err != nil {
		return err
	}
	f.Lost += recorded
	err = s.conn.QueryRow(ctx, `
		select count(*) from (
			select a.id from alerts a left join alert_deliveries d on d.customer_id = a.customer_id and d.alert_id = a.id group by a.customer_id, a.id
			having count(*) filter (where d.state = 'sent') > a.sent or count(*) filter (where d.state = 'failed') > a.failed or count(d.user_id) > a.recipients
				or count(*) filter (where d.state in ('pending', 'collected')) > 0
		) as wrong`).Scan(&f.Twice)
	return err
}

// peakOf is what the service had resident at most, in MiB.
func peakOf(service *process) float64 {
	_, peak := bench.Memory(service.pid)
	return peak
}
