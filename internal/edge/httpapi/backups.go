package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/record/backup"
)

// ListBackups implements GET /v1/operator/backups.
func (h handlers) ListBackups(
	ctx context.Context,
	request api.ListBackupsRequestObject,
) (api.ListBackupsResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	backups, err := h.features.Backups.List(ctx, id.Backup{UUID: asked.before}, asked.limit+1)
	if err != nil {
		return nil, err
	}
	backups, next, link := cut(asked, backups, func(one backup.Backup) uuid.UUID { return one.ID.UUID })
	data := make([]api.Backup, len(backups))
	for i, one := range backups {
		data[i] = toBackup(one)
	}
	return api.ListBackups200JSONResponse{
		Body:    api.BackupPage{Data: data, NextCursor: next},
		Headers: api.ListBackups200ResponseHeaders{Link: link},
	}, nil
}

// CreateBackup implements POST /v1/operator/backups.
func (h handlers) CreateBackup(
	ctx context.Context,
	request api.CreateBackupRequestObject,
) (api.CreateBackupResponseObject, error) {
	answer := func(ordered backup.Backup) api.CreateBackup202JSONResponse {
		return api.CreateBackup202JSONResponse{Body: toBackup(ordered)}
	}
	ordered, err := h.features.Backups.Order(ctx, caller(ctx), once(ctx, h.Server, request.Params.IdempotencyKey, nil,
		func(ordered backup.Backup) func(http.ResponseWriter) error {
			return answer(ordered).VisitCreateBackupResponse
		}))
	if err != nil {
		return nil, err
	}
	return answer(ordered), nil
}

func toBackup(one backup.Backup) api.Backup {
	out := api.Backup{
		ID:            one.ID.UUID,
		State:         api.BackupState(one.State),
		RequestedAt:   one.RequestedAt.UTC(),
		TakenAt:       one.TakenAt.UTC(),
		ExpiresAt:     one.ExpiresAt.UTC(),
		Size:          one.Size,
		ServerVersion: one.ServerVersion,
		DeletedAt:     inUTC(one.DeletedAt),
	}
	if one.Ledger != nil {
		out.LedgerNumber = &one.Ledger.Number
	}
	return out
}
