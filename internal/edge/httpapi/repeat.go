package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/idempotency"
)

// once prepares idempotent execution if the caller sent an Idempotency-Key. The key stands for the
// request, and the remembered answer is rendered by the same visitor that writes it.
func once[T any](
	ctx context.Context,
	s *Server,
	key *string,
	request any,
	visit func(result T) func(w http.ResponseWriter) error,
) *idempotency.Once[T] {
	if key == nil {
		return nil
	}
	now := callOf(ctx)
	text, err := json.Marshal(request)
	if err != nil {
		text = nil // cannot happen: the contract's types always encode
	}
	var credential uuid.UUID
	if caller, ok := principal.FromContext(ctx); ok {
		if credential = caller.User.UUID; caller.IsAPIKey() {
			credential = caller.APIKey.UUID
		}
	}
	return &idempotency.Once[T]{
		Box:        s.box,
		Credential: credential,
		Key:        *key,
		Operation:  now.request.Method + " " + now.request.URL.Path,
		Request:    text,
		Render:     func(result T) (idempotency.Answer, error) { return record(visit(result)) },
	}
}

// record captures what a visitor writes.
func record(visit func(w http.ResponseWriter) error) (idempotency.Answer, error) {
	captured := &recorder{header: make(http.Header)}
	err := visit(captured)
	answer := idempotency.Answer{
		Status: captured.status,
		Header: make(map[string]string),
		Body:   bytes.TrimSpace(captured.body.Bytes()),
	}
	for name := range captured.header {
		answer.Header[name] = captured.header.Get(name)
	}
	return answer, err
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header               { return r.header }
func (r *recorder) WriteHeader(status int)            { r.status = status }
func (r *recorder) Write(content []byte) (int, error) { return r.body.Write(content) }

// writeAnswer writes a remembered answer.
func writeAnswer(w http.ResponseWriter, answer idempotency.Answer) {
	for name, value := range answer.Header {
		w.Header().Set(name, value)
	}
	w.Header().Set("Idempotency-Replayed", "true")
	w.WriteHeader(answer.Status)
	_, _ = w.Write(append(answer.Body, '\n')) // the caller may be gone
}
