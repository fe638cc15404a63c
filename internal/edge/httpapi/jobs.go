package httpapi

import (
	"context"
	"encoding/binary"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/infra/jobs"
)

// jobUUID encodes a job number as a UUID, which is what a cursor holds.
func jobUUID(job int64) (inCursor uuid.UUID) {
	binary.BigEndian.PutUint64(inCursor[8:], uint64(job))
	return inCursor
}

// ListJobs implements GET /v1/operator/jobs.
func (h handlers) ListJobs(ctx context.Context, request api.ListJobsRequestObject) (api.ListJobsResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	filter := jobs.Filter{Kind: orEmpty(request.Params.Kind)}
	if request.Params.State != nil {
		filter.State = jobs.State(*request.Params.State)
	}
	found, err := h.features.Operators.ListJobs(
		ctx,
		filter,
		int64(binary.BigEndian.Uint64(asked.before[8:])),
		asked.limit+1,
	)
	if err != nil {
		return nil, err
	}
	found, next, link := cut(asked, found, func(one jobs.Record) uuid.UUID { return jobUUID(one.ID) })
	data := make([]api.Job, len(found))
	for i, one := range found {
		data[i] = toJob(one)
	}
	return api.ListJobs200JSONResponse{
		Body:    api.JobPage{Data: data, NextCursor: next},
		Headers: api.ListJobs200ResponseHeaders{Link: link},
	}, nil
}

// RetryJob implements POST /v1/operator/jobs/{id}/retry.
func (h handlers) RetryJob(ctx context.Context, request api.RetryJobRequestObject) (api.RetryJobResponseObject, error) {
	job, err := strconv.ParseInt(request.ID, 10, 64)
	if err != nil {
		return nil, fault.New(fault.ResourceNotFound, "There is no such job.")
	}
	answer := func(after jobs.Record) api.RetryJob202JSONResponse {
		return api.RetryJob202JSONResponse{Body: toJob(after)}
	}
	after, err := h.features.Operators.RetryJob(
		ctx,
		caller(ctx),
		job,
		once(ctx, h.Server, request.Params.IdempotencyKey, nil,
			func(after jobs.Record) func(http.ResponseWriter) error {
				return answer(after).VisitRetryJobResponse
			}),
	)
	if err != nil {
		return nil, err
	}
	return answer(after), nil
}

func toJob(one jobs.Record) api.Job {
	out := api.Job{
		ID: strconv.FormatInt(
			one.ID,
			10,
		),
		Kind:    one.Kind,
		Queue:   string(one.Queue),
		State:   api.JobState(one.State),
		Attempt: int32(one.Attempt),
		MaxAttempts: int32(
			one.MaxAttempts,
		),
		Failure:     one.Failure,
		CreatedAt:   one.CreatedAt,
		ScheduledAt: one.ScheduledAt,
		EndedAt:     one.EndedAt,
	}
	if one.Customer != nil {
		out.CustomerID = &one.Customer.UUID
	}
	return out
}
