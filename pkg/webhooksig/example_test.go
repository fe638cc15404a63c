package webhooksig_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/fusionspim/steward/pkg/webhooksig"
)

// A receiver: verify, answer soon, and do each event once.
func Example() {
	const shown = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDpOfBwGDS3Lk=" // when the endpoint was made
	secrets, err := webhooksig.ParseSecrets(shown)                     // two while the secret is being rotated
	if err != nil {
		panic(err)
	}
	seen := make(map[string]bool) // in a real receiver a table, with an index that is unique
	receiver := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, webhooksig.MaxBodyBytes))
		if err != nil {
			http.Error(w, "too long", http.StatusRequestEntityTooLarge)
			return
		}
		message, err := webhooksig.Verify(secrets, r.Header, body, time.Now(), webhooksig.DefaultTolerance)
		if err != nil {
			http.Error(w, "not from Steward", http.StatusUnauthorized)
			return
		}
		var event struct {
			Type string `json:"type"`
			Data struct {
				UserID string `json:"user_id"`
			} `json:"data"`
		}
		if err := json.Unmarshal(body, &event); err != nil {
			http.Error(w, "not JSON", http.StatusBadRequest)
			return
		}
		if !seen[message.ID] {
			seen[message.ID] = true
			fmt.Println(event.Type, event.Data.UserID)
		}
		w.WriteHeader(http.StatusNoContent)
	})

	// What Steward sends, twice.
	const body = `{"id":"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071","type":"user.redacted","timestamp":"2026-03-01T12:00:00Z","data":{"user_id":"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072"}}`
	for range 2 {
		request := httptest.NewRequest(http.MethodPost, "/webhooks/steward", strings.NewReader(body))
		webhooksig.Sign(secrets, request.Header, webhooksig.Message{ID: "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071", SignedAt: time.Now()}, []byte(body))
		answer := httptest.NewRecorder()
		receiver.ServeHTTP(answer, request)
		fmt.Println(answer.Code)
	}
	// Output:
	// user.redacted 019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072
	// 204
	// 204
}
