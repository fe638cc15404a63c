package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/pkg/client/api"
)

// Retries says how often and how patiently a request is tried again.
type Retries struct {
	// Attempts is how often a request is sent at most, the first time included; 1 never tries
	// again.
	Attempts int
	// FirstWait is the wait before the second attempt. It doubles with each further one. A random
	// part of up to a half is taken off, so that many clients do not come back at one moment.
	FirstWait time.Duration
	// LongestWait bounds each wait. Where the service asks for a longer one by Retry-After, its
	// answer is returned instead.
	LongestWait time.Duration
}

// DefaultRetries are four attempts with waits of up to 200, 400 and 800 ms, or as long as the
// service asks for, up to half a minute.
func DefaultRetries() Retries {
	return Retries{Attempts: 4, FirstWait: 200 * time.Millisecond, LongestWait: 30 * time.Second}
}

// credential gives what goes behind "Bearer".
type credential interface {
	// token answers a token other than the refused one, if there can be one.
	token(ctx context.Context, refused string) (string, error)
}

type apiKey hidden[string]

func (k apiKey) token(context.Context, string) (string, error) { return k(), nil }

// transport sends requests: with the credential, and again where that does no harm.
type transport struct {
	http       *http.Client
	base       string // the path of the base URL, with a slash at the end
	userAgent  string
	credential credential // nil: none
	retries    Retries
}

// onlyOnce marks the context of a request that must not be repeated once the service may have seen
// it, although its method is idempotent.
type onlyOnce struct{}

// Do implements HttpRequestDoer.
func (t *transport) Do(request *http.Request) (*http.Response, error) {
	if err := makeRepeatable(request); err != nil {
		return nil, err
	}
	if request.Header.Get("User-Agent") == "" {
		request.Header.Set("User-Agent", t.userAgent)
	}
	if request.Method == http.MethodPost && request.Header.Get("Idempotency-Key") == "" {
		request.Header.Set("Idempotency-Key", uuid.NewString())
	}
	for attempt := 1; ; attempt++ {
		response, settled, err := t.authorized(request)
		if settled || attempt >= t.retries.Attempts || !worthRepeating(request, response, err) {
			return response, err
		}
		wait, ok := t.retries.wait(attempt, response)
		if deadline, set := request.Context().Deadline(); !ok || set && time.Until(deadline) < wait {
			return response, err
		}
		discard(response)
		select {
		case <-time.After(wait):
		case <-request.Context().Done():
			return nil, fmt.Errorf("steward: %s %s was to be tried again: %w", request.Method, request.URL.Path, context.Cause(request.Context()))
		}
	}
}

// authorized sends a request with the credential. A session whose token is refused gets a new one,
// once. Settled means that repeating is of no use.
func (t *transport) authorized(request *http.Request) (response *http.Response, settled bool, err error) {
	if t.credential == nil || request.Header.Get("Authorization") != "" || t.public(request) {
		response, err = t.send(request, "")
		return response, false, err
	}
	token, err := t.credential.token(request.Context(), "")
	if err != nil {
		return nil, true, err
	}
	response, err = t.send(request, token)
	if err != nil || response.StatusCode != http.StatusUnauthorized || !repeatable(request) {
		return response, false, err
	}
	fresh, err := t.credential.token(request.Context(), token)
	if err != nil {
		discard(response)
		return nil, true, err
	}
	if fresh == token {
		return response, true, nil
	}
	discard(response)
	response, err = t.send(request, fresh)
	return response, false, err
}

// public reports whether an operation takes no credential.
func (t *transport) public(request *http.Request) bool {
	switch strings.TrimPrefix(request.URL.Path, t.base) {
	case "v1/sessions", "v1/sessions/refresh":
		return request.Method == http.MethodPost
	}
	return !strings.HasPrefix(request.URL.Path, t.base+"v1/")
}

// send sends a request once. It reads JSON answers to their end, so that a connection that breaks
// in the middle counts as one that failed.
func (t *transport) send(request *http.Request, token string) (*http.Response, error) {
	sent := request.Clone(request.Context())
	if request.GetBody != nil {
		body, err := request.GetBody()
		if err != nil {
			return nil, err
		}
		sent.Body = body
	}
	if token != "" {
		sent.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := t.http.Do(sent)
	if err != nil {
		return nil, fmt.Errorf("steward: %w", err)
	}
	if api.IsJSON(response) {
		body, err := io.ReadAll(io.LimitReader(response.Body, api.LongestAnswer))
		_ = response.Body.Close() // it is read already
		if err != nil {
			return nil, api.Unreadable(response, err)
		}
		response.Body = io.NopCloser(bytes.NewReader(body))
	}
	return response, nil
}

// longestKept is the longest body that is kept for being sent again, in bytes. No JSON body that
// the contract takes is longer.
const longestKept = 4 << 20

// makeRepeatable sees to it that the body can be sent more than once, unless it is too long for
// that.
func makeRepeatable(request *http.Request) error {
	if request.Body == nil || request.Body == http.NoBody || request.GetBody != nil {
		return nil
	}
	start, err := io.ReadAll(io.LimitReader(request.Body, longestKept+1))
	if err != nil {
		return fmt.Errorf("steward: the body of the request cannot be read: %w", err)
	}
	if len(start) > longestKept {
		request.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(start), request.Body), request.Body}
		return nil
	}
	_ = request.Body.Close() // it is read already
	request.ContentLength = int64(len(start))
	request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(start)), nil }
	request.Body, _ = request.GetBody() //nolint:errcheck // never fails
	return nil
}

// repeatable reports whether the body, if any, can be sent more than once.
func repeatable(request *http.Request) bool {
	return request.Body == nil || request.Body == http.NoBody || request.GetBody != nil
}

// worthRepeating reports whether sending a request again may help and does no harm.
func worthRepeating(request *http.Request, response *http.Response, err error) bool {
	if request.Context().Err() != nil || !repeatable(request) {
		return false
	}
	if err != nil {
		var connecting *net.OpError
		var certificate *tls.CertificateVerificationError
		switch {
		case errors.As(err, &certificate):
			return false
		case errors.As(err, &connecting) && connecting.Op == "dial":
			return true // nothing was sent
		}
		return idempotent(request)
	}
	switch response.StatusCode {
	case http.StatusTooManyRequests:
		return true // turned away at the door
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return idempotent(request)
	// an attempt of before is still at work; with it the service sends Retry-After
	case http.StatusConflict:
		return request.Header.Get("Idempotency-Key") != "" && response.Header.Get("Retry-After") != ""
	}
	return false
}

func idempotent(request *http.Request) bool {
	if request.Context().Value(onlyOnce{}) != nil {
		return false
	}
	switch request.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return request.Header.Get("Idempotency-Key") != ""
}

// wait is how long to wait after an attempt. It is false when the service asks for more patience
// than there is.
func (r Retries) wait(attempt int, response *http.Response) (time.Duration, bool) {
	wait := r.LongestWait
	if shift := attempt - 1; shift < 30 {
		wait = min(r.FirstWait<<shift, r.LongestWait)
	}
	wait -= rand.N(wait/2 + 1)
	if asked := retryAfter(response); asked > r.LongestWait {
		return 0, false
	} else if asked > 0 {
		wait = asked + wait/4
	}
	return wait, true
}

// retryAfter reads the header Retry-After: seconds or a date (RFC 9110, section 10.2.3).
func retryAfter(response *http.Response) time.Duration {
	if response == nil {
		return 0
	}
	text := response.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// discard reads what is left of an answer, so that the connection can be used again.
func discard(response *http.Response) {
	if response == nil {
		return
	}
	// at worst the connection is closed
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
}
