package httpapi

import (
	"context"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/compliance/replay"
)

// ListReplays implements GET /v1/operator/replays.
func (h handlers) ListReplays(
	ctx context.Context,
	request api.ListReplaysRequestObject,
) (api.ListReplaysResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	replays, err := h.features.Replays.List(ctx, id.Replay{UUID: asked.before}, asked.limit+1)
	if err != nil {
		return nil, err
	}
	replays, next, link := cut(asked, replays, func(one replay.Replay) uuid.UUID { return one.ID.UUID })
	data := make([]api.Replay, len(replays))
	for i, one := range replays {
		data[i] = toReplay(one)
	}
	return api.ListReplays200JSONResponse{
		Body:    api.ReplayPage{Data: data, NextCursor: next},
		Headers: api.ListReplays200ResponseHeaders{Link: link},
	}, nil
}

func toReplay(one replay.Replay) api.Replay {
	out := api.Replay{
		ID:         one.ID.UUID,
		State:      api.ReplayStateUnfinished,
		Cause:      api.Crash,
		StartedAt:  one.StartedAt.UTC(),
		FinishedAt: inUTC(one.FinishedAt),
		LedgerFrom: one.From,
		LedgerTo:   one.To,
		Entries: int64(
			one.Entries(),
		),
		LostCorrections: int64(one.LostCorrections()),
		Outcomes:        []api.ReplayOutcome{},
		Dropped:         []api.ReplayDrop{},
	}
	if one.Restored {
		out.Cause = api.Restore
	}
	if one.FinishedAt != nil {
		out.State = api.ReplayStateDone
		out.Seconds = new(float32(one.FinishedAt.Sub(one.StartedAt).Seconds()))
	}
	for _, kind := range slices.Sorted(maps.Keys(one.Outcomes)) {
		for _, outcome := range slices.Sorted(maps.Keys(one.Outcomes[kind])) {
			out.Outcomes = append(out.Outcomes, api.ReplayOutcome{
				Kind: api.ReplayOutcomeKind(
					kind,
				),
				Outcome: api.ReplayOutcomeOutcome(outcome),
				Count:   int64(one.Outcomes[kind][outcome]),
			})
		}
	}
	for _, store := range slices.Sorted(maps.Keys(one.Dropped)) {
		out.Dropped = append(out.Dropped, api.ReplayDrop{Store: api.ReplayDropStore(store), Count: one.Dropped[store]})
	}
	return out
}
