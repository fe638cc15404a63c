package httpapi

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"net/url"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/principal"
)

// A cursor is the id of a page's last row with an authentication code over the id, the customer,
// the list and its filters. It is stateless and holds nothing personal. A cursor that was tampered
// with, or issued for another customer or other filters, is refused.

const (
	cursorLabel  = "cursor"
	cursorCode   = 16 // length of the truncated authentication code, in bytes
	defaultLimit = 50
)

// page is the page of a list that the caller requests.
type page struct {
	limit  int
	before uuid.UUID // zero: start at the newest row
	seal   func(last uuid.UUID) []byte
	url    url.URL
}

// pageOf parses limit and cursor. Fault: MalformedCursor.
func (s *Server) pageOf(ctx context.Context, limit *int32, cursor *string) (page, error) {
	now := callOf(ctx)
	query := now.request.URL.Query()
	query.Del("cursor")
	query.Del("limit")
	query.Del("after") // it sets where a list starts, as the cursor does
	asked := page{limit: defaultLimit, url: url.URL{Path: now.request.URL.Path, RawQuery: query.Encode()}}
	asked.seal = s.sealFor(ctx, now.operation.ID, asked.url.RawQuery)
	if limit != nil {
		asked.limit = int(*limit)
	}
	if cursor == nil {
		return asked, nil
	}
	refused := fault.New(fault.MalformedCursor, "Take next_cursor as it is, with the same filters.").
		At("?cursor", "is not a cursor of this list")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(*cursor)
	// The text's length as well, because the decoder ignores line breaks.
	const size = len(uuid.UUID{}) + cursorCode
	if err != nil || len(raw) != size || len(*cursor) != base64.RawURLEncoding.EncodedLen(size) {
		return page{}, refused
	}
	asked.before = uuid.UUID(raw[:len(uuid.UUID{})])
	if subtle.ConstantTimeCompare(asked.seal(asked.before), raw[len(uuid.UUID{}):]) != 1 {
		return page{}, refused
	}
	return asked, nil
}

// sealFor returns the authentication code of cursors for one customer, list and set of filters.
func (s *Server) sealFor(ctx context.Context, operation, filters string) func(last uuid.UUID) []byte {
	caller, _ := principal.FromContext(ctx)
	return func(last uuid.UUID) []byte {
		return s.box.MAC(cursorLabel, caller.Customer.UUID[:], []byte(operation), []byte(filters), last[:])[:cursorCode]
	}
}

// cut trims rows to the page: a row beyond the limit shows that there is a next page. It returns
// the rows of the page, the cursor of the next page, and that page's Link header.
func cut[T any](asked page, rows []T, idOf func(T) uuid.UUID) (shown []T, next *string, link *string) {
	if len(rows) <= asked.limit {
		return rows, nil, nil
	}
	shown = rows[:asked.limit]
	last := idOf(shown[len(shown)-1])
	cursor := base64.RawURLEncoding.EncodeToString(append(last[:], asked.seal(last)...))
	query := asked.url.Query()
	query.Set("cursor", cursor)
	query.Set("limit", decimal(asked.limit))
	address := "<" + asked.url.Path + "?" + query.Encode() + `>; rel="next"`
	return shown, &cursor, &address
}
