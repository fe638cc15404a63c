package webhooksig_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/fusionspim/steward/pkg/webhooksig"
)

// shownSecret is the secret that Steward showed when the endpoint was created.
const shownSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDpOfBwGDS3Lk="

// send makes the request that Steward would send.
func send(receiver http.Handler, secrets []webhooksig.Secret) int {
	const body = `{"id":"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071","type":"user.redacted","timestamp":"2026-03-01T12:00:00Z",` +
		`"data":{"user_id":"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072"}}`
	request := httptest.NewRequest(http.MethodPost, "/webhooks/steward", strings.NewReader(body))
	message := webhooksig.Message{ID: "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071", SignedAt: time.Now()}
	webhooksig.Sign(secrets, request.Header, message, []byte(body))
	answer := httptest.NewRecorder()
	receiver.ServeHTTP(answer, request)
	return answer.Code
}

// A whole receiver. It processes each event once, although the event arrives twice.
func ExampleNewHandler() {
	secrets, err := webhooksig.ParseSecrets(shownSecret) // two while the secret is being rotated
	if err != nil {
		panic(err)
	}
	seen := make(map[string]bool) // in a real receiver a table with a unique index
	receiver := webhooksig.NewHandler(secrets, func(_ context.Context, event webhooksig.Event) error {
		if seen[event.ID] {
			return nil
		}
		seen[event.ID] = true
		switch event.Type {
		case webhooksig.UserRedacted, webhooksig.UserDeleted:
			fmt.Println("remove the copies of", event.Data.UserID)
		}
		return nil
	})

	fmt.Println(send(receiver, secrets))
	fmt.Println(send(receiver, secrets))
	// Output:
	// remove the copies of 019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072
	// 204
	// 204
}

// A receiver of its own kind: verify the body as it arrived, then read it.
func ExampleVerifyNow() {
	secrets, err := webhooksig.ParseSecrets(shownSecret)
	if err != nil {
		panic(err)
	}
	receiver := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, webhooksig.MaxBodyBytes))
		if err != nil {
			http.Error(w, "too long", http.StatusRequestEntityTooLarge)
			return
		}
		if _, err := webhooksig.VerifyNow(secrets, r.Header, body); err != nil {
			http.Error(w, "not from Steward", http.StatusUnauthorized)
			return
		}
		event, err := webhooksig.ParseEvent(body)
		if err != nil {
			http.Error(w, "not an event", http.StatusBadRequest)
			return
		}
		fmt.Println(event.Type, event.Data.UserID)
		w.WriteHeader(http.StatusAccepted)
	})

	fmt.Println(send(receiver, secrets))
	// Output:
	// user.redacted 019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072
	// 202
}
