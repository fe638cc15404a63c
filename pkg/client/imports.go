package client

import (
	"context"
	"io"
	"iter"

	"github.com/fusionspim/steward/pkg/client/api"
)

// ImportFormat is the form of a file of people.
type ImportFormat string

// The formats: a table with a header row, or one JSON object on each line.
const (
	ImportCSV    ImportFormat = "text/csv"
	ImportNDJSON ImportFormat = "application/x-ndjson"
)

// ImportOptions say how a file becomes users. The zero value creates and invites them.
type ImportOptions struct {
	DryRun      bool // judge every row, and change no user
	WithoutMail bool // invite nobody
}

// ImportUsers creates users from a file of up to 100,000 rows and 64 MiB, which is sent as it is
// read. The columns or members are first_name, last_name, email, and if wanted role and
// allow_erased. It needs the scope users:write.
//
// An import that was carried out may have refused rows: Refused counts them, Data shows the first
// ones, and [Client.UserImportRows] lists all. Good rows are kept whatever the others are, and
// sending the same file again does no harm: what is there is left as it is. A file of up to 4 MiB
// is sent again by the client itself after a failure in between; for a longer one that is up to the
// caller. A client with a time-out of its own needs one that is long enough for the whole file.
//
// Problems: [ProblemMalformedRequest] for a file that is none, with nothing changed. A [*Problem]
// whose Import is set came in the middle: it is the path of what was done before.
func (c *Client) ImportUsers(ctx context.Context, format ImportFormat, file io.Reader, how ImportOptions, options ...CallOption) (UserImport, error) {
	call := gather(options)
	params := api.CreateUserImportParams{IdempotencyKey: call.idempotencyKey}
	if how.DryRun {
		params.DryRun = &how.DryRun
	}
	if how.WithoutMail {
		params.Invite = Ptr(false)
	}
	return into[UserImport](call)(c.raw.CreateUserImportWithBody(ctx, &params, string(format), file))
}

// UserImport views an import, with the first page of its rows. It needs the scope users:write.
//
// Problems: [ProblemNotFound], also of an import that is older than 30 days.
func (c *Client) UserImport(ctx context.Context, id ID) (UserImport, error) {
	return into[UserImport](&call{})(c.raw.GetUserImport(ctx, id, &api.GetUserImportParams{}))
}

// UserImportRows lists what became of the rows of an import, in the order of the file; an empty
// status lists all. After an error the loop ends. It needs the scope users:write.
func (c *Client) UserImportRows(ctx context.Context, id ID, status UserImportRowStatus) iter.Seq2[UserImportRow, error] {
	params := api.GetUserImportParams{Status: optional(status), Limit: optional(api.Limit(200))}
	return paged(func(cursor *api.Cursor) ([]UserImportRow, *api.NextCursor, error) {
		params := params // the same iterator may run more than once
		params.Cursor = cursor
		page, err := into[UserImport](&call{})(c.raw.GetUserImport(ctx, id, &params))
		return page.Data, page.NextCursor, err
	})
}
