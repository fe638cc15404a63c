package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/pkg/client/api"
)

// What one request takes of audit entries.
const (
	batchRows  = 1000
	batchBytes = 4<<20 - 1024
)

// RecordAuditEntries adds to the audit trail: any number of entries, sent in batches of up to
// 1,000, one after the other. The results have one row for each entry, in the same order; a row
// that was refused says why in its Problem, and the others are stored all the same. An entry with a
// SourceID that was stored before is not stored again, so sending entries again, after an error
// too, is safe. It needs the scope audit:write, and an API key.
//
// Entries hold ids, numbers, times and closed words, never free text and nothing personal: the
// trail cannot be changed.
//
// An error means that a batch was not carried out. The results are then those of the batches before
// it: len(results.Data) entries are settled. Pointers, in rows and in the Errors of a [*Problem],
// count from the first entry that was given, whichever the batch.
//
// Problems: [ProblemMalformedRequest] when an entry is not of the contract's form. Kinds of refused
// rows: [ProblemUnknownActor], [ProblemUserRedacted], [ProblemSourceIDReused],
// [ProblemInvalidEntry].
func (c *Client) RecordAuditEntries(ctx context.Context, entries []NewAuditEntry) (AuditEntryResults, error) {
	results := AuditEntryResults{Data: make([]AuditEntryResult, 0, len(entries))}
	for start := 0; start < len(entries); {
		batch, count, err := batchOf(entries[start:])
		if err != nil {
			return results, fmt.Errorf("steward: entry %d cannot be written as JSON: %w", start+count, err)
		}
		answer, err := into[AuditEntryResults](&call{})(c.raw.CreateAuditEntries(ctx, &api.CreateAuditEntriesParams{}, batch))
		if err != nil {
			var problem *Problem
			if errors.As(err, &problem) {
				for i := range problem.Errors {
					problem.Errors[i].Pointer = shifted(problem.Errors[i].Pointer, start)
				}
			}
			return results, err
		}
		if len(answer.Data) != count {
			return results, fmt.Errorf("steward: %d entries were answered with %d rows", count, len(answer.Data))
		}
		for i := range answer.Data {
			if problem := answer.Data[i].Problem; problem != nil {
				problem.Pointer = shifted(problem.Pointer, start)
			}
		}
		results.Data = append(results.Data, answer.Data...)
		results.Created += answer.Created
		results.Existing += answer.Existing
		results.Refused += answer.Refused
		start += count
	}
	return results, nil
}

// batchOf writes as many entries as one request takes, and at least one.
func batchOf(entries []NewAuditEntry) (batch json.RawMessage, count int, err error) {
	batch = append(batch, '[')
	for _, entry := range entries {
		text, err := json.Marshal(entry)
		if err != nil {
			return nil, count, err
		}
		if count > 0 {
			if count == batchRows || len(batch)+len(text) > batchBytes {
				break
			}
			batch = append(batch, ',')
		}
		batch = append(batch, text...)
		count++
	}
	return append(batch, ']'), count, nil
}

// shifted moves a pointer into a batch, such as "/3/action", to where the batch lies in the whole.
func shifted(pointer string, start int) string {
	index, rest, _ := strings.Cut(strings.TrimPrefix(pointer, "/"), "/")
	number, err := strconv.Atoi(index)
	if err != nil {
		return pointer
	}
	moved := "/" + strconv.Itoa(start+number)
	if rest != "" {
		moved += "/" + rest
	}
	return moved
}

// AuditFilter chooses entries of the audit trail. Its zero value chooses all; filters that are set
// are joined with "and".
type AuditFilter struct {
	ActorUserID ID
	Action      string // such as product.updated
	TargetType  string
	TargetID    string
	From        time.Time // occurred at this time or later
	To          time.Time // occurred before this time
	// how many entries one request fetches: 1 to 200; 0 lets the service choose
	PageSize int
}

// AuditEntries lists the audit trail, newest first by the time of recording, one request for each
// page as the loop gets there. After an error the loop ends. A redacted actor shows as redacted. It
// needs the scope audit:read.
func (c *Client) AuditEntries(ctx context.Context, filter AuditFilter) iter.Seq2[AuditEntry, error] {
	params := api.ListAuditEntriesParams{
		Action: optional(filter.Action), TargetType: optional(filter.TargetType), TargetID: optional(filter.TargetID), Limit: optional(api.Limit(filter.PageSize)),
	}
	if filter.ActorUserID != uuid.Nil {
		params.ActorUserID = &filter.ActorUserID
	}
	if !filter.From.IsZero() {
		params.From = &filter.From
	}
	if !filter.To.IsZero() {
		params.To = &filter.To
	}
	return paged(func(cursor *api.Cursor) ([]AuditEntry, *api.NextCursor, error) {
		params := params // the same iterator may run more than once
		params.Cursor = cursor
		page, err := into[api.AuditEntryPage](&call{})(c.raw.ListAuditEntries(ctx, &params))
		return page.Data, page.NextCursor, err
	})
}
