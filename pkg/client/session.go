package client

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/pkg/client/api"
)

const (
	renewBefore  = time.Minute     // before the access token expires; at most a quarter of its life
	renewTimeout = time.Minute     // for refreshing and signing in, with all attempts
	renewAgain   = 5 * time.Second // after refreshing failed while the access token is still good
)

// session is a credential that signs in, refreshes, and signs in again when the session has ended.
// Of many callers that need a new token, one gets it for all.
type session struct {
	raw *api.Client // without a credential

	mutex   sync.Mutex
	signIn  hidden[api.SignIn]
	current hidden[grant]
	flight  *flight // the exchange that is under way
}

// hidden holds something that fmt is not to print, however deep it looks.
type hidden[T any] func() T

func hide[T any](value T) hidden[T] { return func() T { return value } }

func (h hidden[T]) value() (value T) {
	if h != nil {
		value = h()
	}
	return value
}

// grant is what signing in or refreshing gave.
type grant struct {
	access  string
	refresh string
	// the Idempotency-Key of the one exchange of the refresh token: an exchange whose answer was
	// lost is asked for again
	refreshKey string
	renewAt    time.Time
	expiresAt  time.Time
}

type flight struct {
	done  chan struct{}
	grant hidden[grant]
	err   error
}

// token implements credential.
func (s *session) token(ctx context.Context, refused string) (string, error) {
	s.mutex.Lock()
	held := s.current.value()
	good := held.access != "" && held.access != refused
	if good && time.Now().Before(held.renewAt) {
		s.mutex.Unlock()
		return held.access, nil
	}
	if s.flight == nil {
		s.flight = &flight{done: make(chan struct{})}
		// The caller may go away; the others, and the refresh token that is good for one exchange,
		// stay.
		go s.fly(context.WithoutCancel(ctx), held, s.flight)
	}
	joined := s.flight
	s.mutex.Unlock()

	select {
	case <-joined.done:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if joined.err != nil {
		if good && time.Now().Before(held.expiresAt) {
			return held.access, nil
		}
		return "", joined.err
	}
	return joined.grant.value().access, nil
}

func (s *session) fly(ctx context.Context, held grant, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	renewed, err := s.renew(ctx, held)
	f.grant, f.err = hide(renewed), err
	s.mutex.Lock()
	if err == nil {
		s.current = f.grant
	} else if held.access != "" && s.current.value().access == held.access {
		held.renewAt = time.Now().Add(renewAgain)
		s.current = hide(held)
	}
	s.flight = nil
	s.mutex.Unlock()
	close(f.done)
}

// renew exchanges the refresh token. Where there is none, or the session has ended, it signs in.
func (s *session) renew(ctx context.Context, held grant) (grant, error) {
	if renewed, ended, err := s.exchange(ctx, held); !ended {
		return renewed, err
	}
	s.mutex.Lock()
	signIn := s.signIn.value()
	s.mutex.Unlock()
	answer, err := s.raw.CreateSessionWithResponse(ctx, &api.CreateSessionParams{}, signIn)
	switch {
	case err != nil:
		return grant{}, err
	case answer.JSON201 != nil:
		return granted(*answer.JSON201), nil
	case answer.Problem != nil:
		return grant{}, answer.Problem
	}
	return grant{}, api.ProblemOf(answer.HTTPResponse, nil)
}

// exchange exchanges the refresh token. Ended means that it is good for nothing any more.
func (s *session) exchange(ctx context.Context, held grant) (renewed grant, ended bool, err error) {
	if held.refresh == "" {
		return grant{}, true, nil
	}
	answer, err := s.raw.RefreshSessionWithResponse(ctx, &api.RefreshSessionParams{IdempotencyKey: &held.refreshKey}, api.Refresh{RefreshToken: held.refresh})
	switch {
	case err != nil:
		return grant{}, false, err
	case answer.JSON200 != nil:
		return granted(*answer.JSON200), false, nil
	case answer.Problem == nil:
		return grant{}, false, api.ProblemOf(answer.HTTPResponse, nil)
	case transient(answer.Problem):
		return grant{}, false, answer.Problem
	}
	return grant{}, true, nil
}

// transient reports whether a refused exchange may succeed later.
func transient(problem *Problem) bool {
	return problem.Status >= 500 || problem.Status == http.StatusTooManyRequests || problem.Code() == ProblemIdempotencyKeyInUse
}

func granted(tokens api.Tokens) grant {
	now, life := time.Now(), time.Duration(tokens.ExpiresIn)*time.Second
	return grant{
		access: tokens.AccessToken, refresh: tokens.RefreshToken, refreshKey: uuid.NewString(),
		renewAt: now.Add(life - min(renewBefore, life/4)), expiresAt: now.Add(life),
	}
}

// signOut ends the session, if there is one.
func (s *session) signOut(ctx context.Context) error {
	s.mutex.Lock()
	held := s.current.value()
	s.current = nil
	s.mutex.Unlock()
	if held.access == "" {
		return nil
	}
	if !time.Now().Before(held.renewAt) { // an expired token ends nothing
		renewed, ended, err := s.exchange(ctx, held)
		if ended || err != nil {
			return err
		}
		held = renewed
	}
	response, err := s.raw.EndCurrentSession(ctx, func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+held.access)
		return nil
	})
	_, err = (&call{}).read(response, err)
	if IsProblem(err, ProblemUnauthorized) {
		return nil // it had ended already
	}
	return err
}

// passwordChanged is told of the password that the person signs in with from now on.
func (s *session) passwordChanged(changed string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	signIn := s.signIn.value()
	signIn.Password = changed
	s.signIn = hide(signIn)
}
