package httpapi

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/account/userimport"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
)

// Limits of an import: in total, and until the next batch of rows arrives.
const (
	importTime      = 15 * time.Minute
	importBatchTime = 20 * time.Second
)

const ndjson = "application/x-ndjson"

// CreateUserImport implements POST /v1/user-imports.
func (h handlers) CreateUserImport(
	ctx context.Context,
	request api.CreateUserImportRequestObject,
) (api.CreateUserImportResponseObject, error) {
	now := callOf(ctx)
	order := userimport.Order{
		Format: userimport.CSV,
		DryRun: request.Params.DryRun != nil && *request.Params.DryRun,
		Invite: request.Params.Invite == nil || *request.Params.Invite,
	}
	if now.request.Header.Get("Content-Type") == ndjson {
		order.Format = userimport.NDJSON
	}
	file := userimport.File{Body: request.Body, Attend: h.attending(now)}
	if key := request.Params.IdempotencyKey; key != nil {
		credential := caller(ctx).User.UUID
		if caller(ctx).IsAPIKey() {
			credential = caller(ctx).APIKey.UUID
		}
		manner := []byte{flag(order.DryRun), flag(order.Invite)}
		file.Key = &userimport.Key{
			Hash: h.box.MAC("import key", credential[:], []byte(*key)),
			Fingerprint: func(sum []byte) []byte {
				return h.box.MAC("import fingerprint", credential[:], []byte(*key), []byte(order.Format), manner, sum)
			},
		}
	}
	done, err := h.features.Imports.Create(ctx, caller(ctx), order, file, defaultLimit+1)
	if err != nil {
		return nil, err
	}
	// The page equals that of GET .../{id}?status=refused, and its cursor continues there.
	asked := page{limit: defaultLimit, url: url.URL{Path: userimport.Path(done.Import.ID), RawQuery: "status=refused"}}
	asked.seal = h.sealFor(ctx, "getUserImport", asked.url.RawQuery)
	body, _ := toImport(asked, done.Import, done.Refused)
	answer := api.CreateUserImport201JSONResponse{
		Body:    body,
		Headers: api.CreateUserImport201ResponseHeaders{Location: userimport.Path(done.Import.ID)},
	}
	if done.Replayed {
		answer.Headers.IdempotencyReplayed = nonEmpty("true")
	}
	return answer, nil
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

// attending returns the check before each batch of a stream: the caller must still be authorised,
// and the deadlines of the connection move on. The server's own would cut off a large file.
func (h handlers) attending(now *call) func() error {
	connection := http.NewResponseController(now.writer)
	end := time.Now().Add(importTime) // the connection uses the machine's own clock
	return func() error {
		caller, err := h.authenticate(now.request, now)
		if err != nil {
			return err
		}
		if err := authorise(caller, now.operation); err != nil {
			return err
		}
		err = errors.Join(
			connection.SetReadDeadline(earlier(end, time.Now().Add(importBatchTime))),
			connection.SetWriteDeadline(end.Add(importBatchTime)),
		)
		if err != nil && !errors.Is(err, http.ErrNotSupported) {
			// the connection is gone
			return fault.Because(err, fault.MalformedRequest, "The body could not be read to its end.")
		}
		return nil
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// GetUserImport implements GET /v1/user-imports/{id}.
func (h handlers) GetUserImport(
	ctx context.Context,
	request api.GetUserImportRequestObject,
) (api.GetUserImportResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	var status userimport.Status
	if request.Params.Status != nil {
		status = userimport.Status(*request.Params.Status)
	}
	found, rows, err := h.features.Imports.Get(
		ctx,
		caller(ctx),
		id.Import{UUID: request.ID},
		status,
		numberIn(asked.before),
		asked.limit+1,
	)
	if err != nil {
		return nil, err
	}
	body, link := toImport(asked, found, rows)
	return api.GetUserImport200JSONResponse{Body: body, Headers: api.GetUserImport200ResponseHeaders{Link: link}}, nil
}

// A cursor holds an id. A row has none; its number fills the last bytes.
func numbered(row userimport.Row) (out uuid.UUID) {
	binary.BigEndian.PutUint32(out[12:], uint32(row.Number))
	return out
}

func numberIn(cursor uuid.UUID) int { return int(binary.BigEndian.Uint32(cursor[12:])) }

func toImport(asked page, found userimport.Import, rows []userimport.Row) (body api.UserImport, link *string) {
	rows, next, link := cut(asked, rows, numbered)
	body = api.UserImport{
		ID:        found.ID.UUID,
		State:     api.UserImportState(found.State),
		Format:    api.UserImportFormat(found.Format),
		DryRun:    found.DryRun,
		Invite:    found.Invite,
		OrderedBy: api.OrderedBy{Authority: api.Authority(found.Authority)},
		StartedAt: found.StartedAt.UTC(),
		Rows: int32(
			found.Rows(),
		),
		Created:     int32(found.Created),
		WouldCreate: int32(found.WouldCreate),
		Existing:    int32(found.Existing),
		Refused:     int32(found.Refused),
		Data:        make([]api.UserImportRow, len(rows)),
		NextCursor:  next,
	}
	if found.OrderedByUser != nil {
		body.OrderedBy.UserID = &found.OrderedByUser.UUID
	}
	if found.OrderedByAPIKey != nil {
		body.OrderedBy.APIKeyID = &found.OrderedByAPIKey.UUID
	}
	if found.FinishedAt != nil {
		at := found.FinishedAt.UTC()
		body.FinishedAt = &at
	}
	if found.StoppedBy != nil {
		body.StoppedBy = nonEmpty(string(*found.StoppedBy))
	}
	for i, row := range rows {
		body.Data[i] = toImportRow(row)
	}
	return body, link
}

func toImportRow(row userimport.Row) api.UserImportRow {
	out := api.UserImportRow{Row: int32(row.Number), Line: int32(row.Line), Status: api.UserImportRowStatus(row.Status)}
	if row.User != nil {
		out.UserID = &row.User.UUID
	}
	if row.Status == userimport.Refused {
		code, detail := row.Reason.Explain()
		entry, _ := fault.Describe(code)
		out.Problem = &api.UserImportProblem{
			Type:    "/problems/" + string(code),
			Title:   entry.Title,
			Detail:  detail,
			Pointer: nonEmpty(row.Pointer),
		}
	}
	return out
}
