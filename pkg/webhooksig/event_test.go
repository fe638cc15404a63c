package webhooksig_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fusionspim/steward/pkg/webhooksig"
)

const redacted = `{"id":"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071","type":"user.redacted","timestamp":"2026-03-01T12:00:00Z",` +
	`"data":{"user_id":"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072"}}`

func TestParseEvent(t *testing.T) {
	t.Parallel()
	want := webhooksig.Event{
		ID: id, Type: webhooksig.UserRedacted, Timestamp: now,
		Data: webhooksig.EventData{UserID: "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072"},
	}
	for _, body := range []string{redacted, strings.Replace(redacted, `"data"`, `"later":[1],"data"`, 1)} {
		if event, err := webhooksig.ParseEvent([]byte(body)); err != nil || event != want {
			t.Errorf("got %+v, %v", event, err)
		}
	}
	for _, wrong := range []string{"", "null", "[]", "{}", `{"id":"x"}`, `{"type":"user.created"}`, redacted + "x", `{"id":7,"type":"x"}`} {
		if _, err := webhooksig.ParseEvent([]byte(wrong)); !errors.Is(err, webhooksig.ErrEvent) {
			t.Errorf("%q: got %v", wrong, err)
		}
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	secret, stranger := webhooksig.NewSecret(), webhooksig.NewSecret()
	signedBy := func(secret webhooksig.Secret, id, body string, at time.Time) *http.Request {
		request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		webhooksig.Sign([]webhooksig.Secret{secret}, request.Header, webhooksig.Message{ID: id, SignedAt: at}, []byte(body))
		return request
	}
	failing := errors.New("no room")
	for name, test := range map[string]struct {
		request *http.Request
		err     error
		status  int
		calls   int
	}{
		"an event":                {signedBy(secret, id, redacted, time.Now()), nil, http.StatusNoContent, 1},
		"an event not stored":     {signedBy(secret, id, redacted, time.Now()), failing, http.StatusInternalServerError, 1},
		"another's":               {signedBy(stranger, id, redacted, time.Now()), nil, http.StatusUnauthorized, 0},
		"an old one":              {signedBy(secret, id, redacted, time.Now().Add(-time.Hour)), nil, http.StatusUnauthorized, 0},
		"unsigned":                {httptest.NewRequest(http.MethodPost, "/", strings.NewReader(redacted)), nil, http.StatusUnauthorized, 0},
		"not an event":            {signedBy(secret, id, `{"id":"x"}`, time.Now()), nil, http.StatusBadRequest, 0},
		"the id of another event": {signedBy(secret, "other", redacted, time.Now()), nil, http.StatusBadRequest, 0},
		"too long":                {signedBy(secret, id, redacted+strings.Repeat(" ", webhooksig.MaxBodyBytes), time.Now()), nil, http.StatusRequestEntityTooLarge, 0},
		"another method":          {httptest.NewRequest(http.MethodGet, "/", nil), nil, http.StatusMethodNotAllowed, 0},
	} {
		calls := 0
		handler := webhooksig.NewHandler([]webhooksig.Secret{secret}, func(_ context.Context, event webhooksig.Event) error {
			if calls++; event.ID != id || event.Type != webhooksig.UserRedacted {
				t.Errorf("%s: got %+v", name, event)
			}
			return test.err
		})
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, test.request)
		if answer.Code != test.status || calls != test.calls {
			t.Errorf("%s: got %d and %d calls, want %d and %d", name, answer.Code, calls, test.status, test.calls)
		}
	}
}
