package webhook

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/pkg/webhooksig"
)

// Bounds of what one replica does at once.
const (
	lookEvery       = 200 * time.Millisecond
	endpointsAtOnce = 256
	tripsAtOnce     = 4    // transactions of the workers; the others belong to requests
	lanesPerWorker  = 32   // attempts at once at one endpoint
	lanesAtOnce     = 1024 // altogether, besides one for each worker
	lanesWhileDown  = 2    // at an endpoint that takes nothing: enough to find out when it does again

	batchFresh     = 384
	batchAgain     = 128
	spreadAtOnce   = 1000
	spreadRounds   = 10
	batchFor       = 2 * time.Second // after which no attempt of a batch begins any more
	noteEvery      = 250 * time.Millisecond
	leaseFor       = 30 * time.Second // longer than a batch with its last attempt, and the times for the database
	downAfter      = 32               // failures in a row
	restAfterError = 5 * time.Second
	graceAtEnd     = 3 * time.Second // for attempts under way when the replica ends
	longestAnswer  = 64 << 10
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
		places, err = due(tx, free)
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

// takeLanes returns how many lanes a worker may have besides its first: what is wanted, or what is left.
func (s *Service) takeLanes(wanted int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := max(min(wanted, lanesAtOnce-s.lanes), 0)
	s.lanes += taken
	return taken
}

func (s *Service) giveLanes(taken int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes -= taken
}

// trip is a transaction of a worker. The workers wait for each other, so that requests do not have to wait for them.
func (s *Service) trip(of id.Customer, work func(tx *postgres.Tx) error) error {
	s.trips <- struct{}{}
	defer func() { <-s.trips }()
	return s.db.InCustomer(context.Background(), of, work)
}

// work sends to one endpoint until nothing is due there.
func (s *Service) work(ctx context.Context, at place) {
	lease, err := uuid.NewV7()
	for err == nil && ctx.Err() == nil {
		var load batch
		if load, err = s.next(at, lease); err != nil || len(load.parcels) == 0 {
			break
		}
		err = s.send(ctx, at, load)
	}
	if err == nil && ctx.Err() != nil {
		err = s.trip(at.customer, func(tx *postgres.Tx) error { return drop(tx, at.endpoint, lease) })
	}
	if err != nil {
		s.log.Error("sending webhooks failed", "endpoint", at.endpoint, "error", err)
		rest(ctx)
	}
}

// batch is what is sent in one go.
type batch struct {
	target  *url.URL
	secrets []webhooksig.Secret
	parcels []parcel
	down    bool
}

// next takes or renews the lease and returns what is to be sent. There is nothing when nothing is due, or somebody else has the lease.
func (s *Service) next(at place, lease uuid.UUID) (load batch, err error) {
	err = s.trip(at.customer, func(tx *postgres.Tx) error {
		load = batch{} // the work may be done again
		now, there, err := hold(tx, at.endpoint)
		switch {
		case err != nil || !there:
			return err
		case now.leaseUntil != nil && *now.leaseID != lease && now.leaseUntil.After(tx.Now):
			return nil
		case now.status != Active:
			return drained(tx, at.endpoint)
		case now.heldUntil != nil && now.heldUntil.After(tx.Now):
			return leave(tx, at.endpoint, now.position, now.heldUntil)
		}
		more := true
		for round := 0; ; round++ {
			if load.parcels, err = claim(tx, at.endpoint, batchFresh, batchAgain); err != nil {
				return err
			}
			if len(load.parcels) >= batchFresh/2 || !more || round == spreadRounds {
				break
			}
			var looked int
			if now.position, looked, err = spread(tx, at.endpoint, now.types, now.position, spreadAtOnce); err != nil {
				return err
			}
			more = looked == spreadAtOnce
			if looked == 0 {
				break
			}
		}
		if len(load.parcels) == 0 {
			var again *time.Time
			if more { // events, none of which is wanted here
				again = &tx.Now
			}
			return leave(tx, at.endpoint, now.position, again)
		}
		if load.target, err = url.Parse(now.url); err != nil {
			return err
		}
		if load.secrets, err = s.secretsOf(tx.Customer, at.endpoint, now.secrets, tx.Now); err != nil {
			return err
		}
		load.down = now.failures >= downAfter
		return keep(tx, at.endpoint, lease, tx.Now.Add(leaseFor), now.position)
	})
	return load, err
}

// send makes the attempts of a batch and notes what came of them.
func (s *Service) send(ctx context.Context, at place, load batch) error {
	wanted := lanesPerWorker
	if load.down {
		wanted = lanesWhileDown
	}
	extra := s.takeLanes(wanted - 1)
	defer s.giveLanes(extra)

	// Attempts go on for a moment after the replica was told to end.
	attempts, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(graceAtEnd, stop) })()

	var enough atomic.Bool // no attempt begins any more
	window := time.AfterFunc(batchFor, func() { enough.Store(true) })
	defer window.Stop()
	defer context.AfterFunc(ctx, func() { enough.Store(true) })()

	queue := make(chan []parcel, len(load.parcels))
	for _, group := range bySubject(load.parcels) {
		queue <- group
	}
	close(queue)
	done := make(chan tried)
	var lanes sync.WaitGroup
	for range extra + 1 {
		lanes.Go(func() {
			for group := range queue {
				for _, one := range group {
					if enough.Load() {
						return
					}
					made := s.try(attempts, load, one)
					if attempts.Err() != nil {
						return // broken off by ourselves, which says nothing of the receiver
					}
					if made.gone || made.hold > 0 {
						enough.Store(true)
					}
					done <- made
				}
			}
		})
	}
	go func() {
		lanes.Wait()
		close(done)
	}()
	return s.collect(at, done)
}

// bySubject puts together what is about one person or thing, each in its order.
func bySubject(parcels []parcel) (groups [][]parcel) {
	places := make(map[uuid.UUID]int)
	for _, one := range parcels {
		at, known := places[one.SubjectID]
		if !known {
			at = len(groups)
			places[one.SubjectID] = at
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], one)
	}
	return groups
}

// tried is what came of one attempt, and what it says of the endpoint.
type tried struct {
	result
	gone bool
	hold time.Duration // that the receiver asks for
}

// try makes one attempt.
func (s *Service) try(ctx context.Context, load batch, one parcel) tried {
	outcome, status, header := s.post(ctx, load.target, load.secrets, one.ID, one.Body())
	now := s.db.Now()
	made := tried{result: result{ID: one.ID, State: Succeeded, Step: one.step + 1, At: now, Outcome: outcome}}
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

// collect notes what comes of attempts, several at a time, until there are no more.
func (s *Service) collect(at place, done <-chan tried) error {
	ticker := time.NewTicker(noteEvery)
	defer ticker.Stop()
	var gathered []tried
	var failure error
	flush := func() {
		if len(gathered) > 0 && failure == nil { // after a failure the attempts are drained, and made again
			failure = s.note(at, gathered)
		}
		gathered = gathered[:0]
	}
	for {
		select {
		case one, more := <-done:
			if !more {
				flush()
				return failure
			}
			gathered = append(gathered, one)
		case <-ticker.C:
			flush()
		}
	}
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
		failingSince, active, err := tally(tx, at.endpoint, succeeded, failures, firstFailure, heldUntil)
		if err != nil {
			return err
		}
		if err := note(tx, at.endpoint, results); err != nil || !active {
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
