package webhook

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/pkg/webhooksig"
)

// Bounds of what one replica does at once.
const (
	lookEvery       = 200 * time.Millisecond
	endpointsAtOnce = 256
	tripsAtOnce     = 4    // transactions of the workers; the others belong to requests
	lanesPerWorker  = 64   // attempts at once at one endpoint
	lanesAtOnce     = 1024 // altogether, besides one for each worker
	lanesWhileDown  = 2    // at an endpoint that takes nothing: enough to find out when it does again

	flightAtMost    = 512 // fetched and not noted yet, for one endpoint
	flightWhileDown = 16
	againPart       = 4 // a fourth of what is fetched may be what failed before
	spreadAtOnce    = 1000
	spreadRounds    = 10
	noteEvery       = 250 * time.Millisecond
	noteAtOnce      = 128
	fetchEvery      = time.Second      // while something is under way and nothing else is known of
	renewEvery      = 5 * time.Second  // at the latest
	leaseFor        = 30 * time.Second // much longer than renewEvery and the times for the database
	downAfter       = 32               // failures in a row
	restAfterError  = 5 * time.Second
	graceAtEnd      = 3 * time.Second // for attempts under way when the replica ends
	longestAnswer   = 64 << 10
)

// Dispatch sends what is to be sent until the context ends, and returns when nothing is under way any more.
func (s *Service) Dispatch(ctx context.Context) {
	var workers sync.WaitGroup
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			workers.Wait()
			s.client.Close()
			return
		case <-ticker.C:
		}
		places, err := s.look(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Error("looking for webhooks to be sent failed", "error", err)
			rest(ctx)
		}
		for _, at := range places {
			if s.take(at) {
				workers.Go(func() {
					defer s.give(at)
					s.work(ctx, at)
				})
			}
		}
	}
}

func rest(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(restAfterError):
	}
}

// look returns endpoints that are due, no more than there can be workers for.
func (s *Service) look(ctx context.Context) (places []place, err error) {
	s.mu.Lock()
	free := endpointsAtOnce - len(s.busy)
	s.mu.Unlock()
	if free <= 0 {
		return nil, nil
	}
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		places, err = due(tx, s.replica, free)
		return err
	})
	return places, err
}

func (s *Service) take(at place) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[at] {
		return false
	}
	s.busy[at] = true
	return true
}

func (s *Service) give(at place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, at)
}

// takeLane tells whether a worker may have one more lane besides its first.
func (s *Service) takeLane() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lanes >= lanesAtOnce {
		return false
	}
	s.lanes++
	return true
}

func (s *Service) giveLane() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes--
}

// trip is a transaction of a worker. The workers wait for each other, so that requests do not have to wait for them.
func (s *Service) trip(of id.Customer, work func(tx *postgres.Tx) error) error {
	s.trips <- struct{}{}
	defer func() { <-s.trips }()
	return s.db.InCustomer(context.Background(), of, work)
}

// work sends to one endpoint until nothing is due there.
func (s *Service) work(ctx context.Context, at place) {
	w := &worker{Service: s, at: at, flight: make(map[id.Entry]bool), queues: make(map[uuid.UUID][]parcel)}
	if err := w.run(ctx); err != nil {
		s.log.Error("sending webhooks failed", "endpoint", at.endpoint, "error", err)
		rest(ctx)
	}
}

// batch is what is fetched in one go.
type batch struct {
	target  *url.URL
	secrets []webhooksig.Secret
	parcels []parcel
	down    bool
	over    bool // the lease is given up, or another has it
}

// next takes or renews the lease and returns what is to be sent besides what is in flight, as much as there is room for. When there is nothing at all, the lease is
// given up.
func (s *Service) next(at place, flight map[id.Entry]bool) (load batch, err error) {
	err = s.trip(at.customer, func(tx *postgres.Tx) error {
		load = batch{over: true} // the work may be done again
		now, exists, err := lock(tx, at.endpoint)
		switch {
		case err != nil || !exists:
			return err
		case now.leaseUntil != nil && *now.leaseID != s.replica && now.leaseUntil.After(tx.Now):
			return nil
		case now.status != Active:
			return releaseInactive(tx, at.endpoint)
		case now.heldUntil != nil && now.heldUntil.After(tx.Now):
			return releaseUntil(tx, at.endpoint, now.position, now.heldUntil)
		}
		load.down = now.failures >= downAfter
		room := flightAtMost
		if load.down {
			room = flightWhileDown
		}
		room = max(room-len(flight), 0)
		more := true
		for round := 0; room > 0; round++ {
			// What is in flight is found first, so the limits make up for it.
			claimed, err := claim(tx, at.endpoint, room+len(flight), room/againPart+len(flight))
			if err != nil {
				return err
			}
			load.parcels = slices.DeleteFunc(claimed, func(one parcel) bool { return flight[one.ID] })
			if len(load.parcels) >= room/2 || !more || round == spreadRounds {
				break
			}
			var looked int
			if now.position, looked, err = fanOut(tx, at.endpoint, now.types, now.position, spreadAtOnce); err != nil {
				return err
			}
			more = looked == spreadAtOnce
			if looked == 0 {
				break
			}
		}
		if len(load.parcels) == 0 && len(flight) == 0 {
			var again *time.Time
			if more { // events, none of which is wanted here
				again = &tx.Now
			}
			return releaseUntil(tx, at.endpoint, now.position, again)
		}
		load.over = false
		if load.target, err = url.Parse(now.url); err != nil {
			return err
		}
		if load.secrets, err = s.secretsOf(tx.Customer, at.endpoint, now.secrets, tx.Now); err != nil {
			return err
		}
		return renewLease(tx, at.endpoint, s.replica, tx.Now.Add(leaseFor), now.position)
	})
	return load, err
}

// worker sends to one endpoint. Only its own goroutine touches it; the attempts have goroutines of their own and report to it.
type worker struct {
	*Service
	at       place
	load     batch                  // as it was fetched last
	flight   map[id.Entry]bool      // what was fetched and is not noted yet
	queues   map[uuid.UUID][]parcel // of each person or thing that something is under way about, what comes behind
	ready    []parcel               // what may begin
	gathered []tried                // what is to be noted
	under    int                    // attempts under way
	halted   bool                   // the receiver wants nothing more: what is under way is the last
}

// run fetches, sends and notes until nothing is due, the context ends, or the database fails.
func (w *worker) run(ctx context.Context) (err error) {
	// Attempts go on for a moment after the replica was told to end. When this returns, none is under way.
	attempts, stop := context.WithCancel(context.WithoutCancel(ctx))
	var lanes sync.WaitGroup
	defer func() {
		stop()
		lanes.Wait()
		for ; w.under > 1; w.under-- {
			w.giveLane()
		}
	}()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(graceAtEnd, stop) })()

	done := make(chan tried, lanesPerWorker)
	ticker := time.NewTicker(noteEvery)
	defer ticker.Stop()
	fetch := true
	var fetched time.Time
	for {
		if fetch && !w.halted && ctx.Err() == nil {
			if w.load, err = w.next(w.at, w.flight); err != nil {
				return err
			}
			if w.halted = w.load.over; w.halted && w.under == 0 {
				return nil
			}
			w.add(w.load.parcels)
			fetch, fetched = false, time.Now()
		}
		for len(w.ready) > 0 && !w.halted && ctx.Err() == nil && w.mayBegin() {
			one, load := w.ready[0], w.load
			w.ready, w.under = w.ready[1:], w.under+1
			lanes.Go(func() { done <- w.try(attempts, load, one) }) // there is room: no more are under way than it holds
		}
		if w.under == 0 { // everything came to its end, or may not begin any more
			if err := w.note(); err != nil {
				return err
			}
			if ctx.Err() != nil || w.load.over {
				return w.trip(w.at.customer, func(tx *postgres.Tx) error { return releaseLease(tx, w.at.endpoint, w.replica) })
			}
			w.forget()
			fetch = true
			continue
		}
		select {
		case one := <-done:
			w.ended(one, attempts.Err() != nil)
			if len(w.gathered) >= noteAtOnce {
				err = w.note()
			}
			fetch = len(w.load.parcels) >= flightAtMost/2 && len(w.flight) < flightAtMost/2 // there is more where that came from
		case <-ticker.C:
			err = w.note()
			fetch = time.Since(fetched) > renewEvery || len(w.ready) == 0 && time.Since(fetched) > fetchEvery
		}
		if err != nil {
			return err
		}
	}
}

// mayBegin tells whether one more attempt may be under way.
func (w *worker) mayBegin() bool {
	most := lanesPerWorker
	if w.load.down {
		most = lanesWhileDown
	}
	return w.under == 0 || w.under < most && w.takeLane()
}

// add sorts in what was fetched. What is about somebody about whom something is under way or ready waits behind that.
func (w *worker) add(parcels []parcel) {
	for _, one := range parcels {
		w.flight[one.ID] = true
		if behind, busy := w.queues[one.SubjectID]; busy {
			w.queues[one.SubjectID] = append(behind, one)
			continue
		}
		w.queues[one.SubjectID] = nil
		w.ready = append(w.ready, one)
	}
}

// ended takes what came of an attempt. One that was broken off by ourselves says nothing of the receiver.
func (w *worker) ended(one tried, brokenOff bool) {
	if w.under--; w.under > 0 {
		w.giveLane()
	}
	if brokenOff && one.State != Succeeded {
		return
	}
	w.gathered = append(w.gathered, one)
	w.halted = w.halted || one.gone || one.hold > 0
	if behind := w.queues[one.subject]; len(behind) > 0 {
		w.queues[one.subject], w.ready = behind[1:], append(w.ready, behind[0])
		return
	}
	delete(w.queues, one.subject)
}

// forget leaves what was fetched and not begun to be fetched again.
func (w *worker) forget() {
	clear(w.flight)
	clear(w.queues)
	w.ready, w.halted = nil, false
}

// note stores what came of attempts.
func (w *worker) note() error {
	if len(w.gathered) == 0 {
		return nil
	}
	if err := w.Service.note(w.at, w.gathered); err != nil {
		return err
	}
	for _, one := range w.gathered {
		delete(w.flight, one.ID)
	}
	w.gathered = w.gathered[:0]
	return nil
}

// tried is what came of one attempt, and what it says of the endpoint.
type tried struct {
	result
	subject uuid.UUID
	gone    bool
	hold    time.Duration // that the receiver asks for
}

// try makes one attempt.
func (s *Service) try(ctx context.Context, load batch, one parcel) tried {
	outcome, status, header := s.post(ctx, load.target, load.secrets, one.ID, one.Body())
	now := s.db.Now()
	made := tried{subject: one.SubjectID, result: result{ID: one.ID, State: Succeeded, Step: one.step + 1, At: now, Outcome: outcome}}
	if status != 0 {
		made.Status = &status
	}
	if outcome == Delivered {
		return made
	}
	made.gone = status == http.StatusGone
	asked := time.Duration(0)
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		asked = retryAfter(header.Get("Retry-After"), now)
		made.hold = min(asked, longestHold)
	}
	made.State = Failed
	if one.step < len(waits) {
		wait := max(waits[one.step]+rand.N(waits[one.step]/10), min(asked, longestWait)) //nolint:gosec // spreads attempts, keeps nothing secret
		next := now.Add(wait)
		made.State, made.Next = Waiting, &next
	}
	return made
}

// retryAfter reads how long a receiver asks to be left alone: seconds or a time (RFC 9110, section 10.2.3); zero for anything else.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// note stores what came of attempts, and pauses the endpoint if that is what they say.
func (s *Service) note(at place, gathered []tried) error {
	results := make([]result, len(gathered))
	succeeded, gone, failures := false, false, 0
	var firstFailure, heldUntil *time.Time
	for i, one := range gathered {
		results[i] = one.result
		if one.State == Succeeded {
			succeeded = true
			continue
		}
		failures++
		gone = gone || one.gone
		if firstFailure == nil || one.At.Before(*firstFailure) {
			firstFailure = &gathered[i].At
		}
		if until := one.At.Add(one.hold); one.hold > 0 && (heldUntil == nil || until.After(*heldUntil)) {
			heldUntil = &until
		}
	}
	return s.trip(at.customer, func(tx *postgres.Tx) error {
		failingSince, active, err := saveHealth(tx, at.endpoint, succeeded, failures, firstFailure, heldUntil)
		if err != nil {
			return err
		}
		if err := saveResults(tx, at.endpoint, results); err != nil || !active {
			return err
		}
		switch {
		case gone:
			return s.pause(tx, at.endpoint, Gone)
		case failingSince != nil && tx.Now.Sub(*failingSince) >= failingFor:
			return s.pause(tx, at.endpoint, Failing)
		}
		return nil
	})
}
