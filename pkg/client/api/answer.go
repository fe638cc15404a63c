package api

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
)

// ProblemCode is the kind of a problem: the last part of its type, such as "user-redacted". Package
// client has a constant for each. More kinds may come.
type ProblemCode string

// Code returns the kind of the problem. It is empty when the answer was not a problem document, as
// by a proxy.
func (p *Problem) Code() ProblemCode { return codeOf(p.Type) }

// Code returns the kind of the problem.
func (p *RowProblem) Code() ProblemCode { return codeOf(p.Type) }

// Code returns the kind of the problem.
func (p *UserImportProblem) Code() ProblemCode { return codeOf(p.Type) }

func codeOf(kind string) ProblemCode {
	if strings.Contains(kind, "/") {
		return ProblemCode(path.Base(kind))
	}
	return ""
}

// Error implements error. The text names status, kind and request, and the members at fault. It
// holds nothing that was sent.
func (p *Problem) Error() string {
	kind := string(p.Code())
	if kind == "" {
		kind = p.Title
	}
	text := fmt.Sprintf("steward: %d %s: %s", p.Status, kind, p.Detail)
	for _, member := range p.Errors[:min(len(p.Errors), 5)] {
		text += fmt.Sprintf(" %s %s.", member.Pointer, strings.TrimSuffix(member.Detail, "."))
	}
	if p.RequestID != "" {
		text += " (request " + p.RequestID + ")"
	}
	return text
}

// LongestAnswer is the most that is read of a response that becomes a value, in bytes. The longest
// of the contract is far below.
const LongestAnswer = 64 << 20

// ReadAnswer reads a response to its end and closes it. Every status that is not a success is a
// problem.
func ReadAnswer(response *http.Response) ([]byte, *Problem, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, LongestAnswer))
	if closeErr := response.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, nil, Unreadable(response, err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return body, ProblemOf(response, body), nil
	}
	return body, nil, nil
}

// ProblemOf reads a problem document. It makes one of any other body, so that callers see one kind
// of error.
func ProblemOf(response *http.Response, body []byte) *Problem {
	if IsJSON(response) {
		var problem Problem
		if err := json.Unmarshal(body, &problem); err == nil && problem.Type != "" {
			problem.Status = int32(response.StatusCode)
			return &problem
		}
	}
	return &Problem{
		Type: "about:blank", Title: http.StatusText(response.StatusCode), Status: int32(response.StatusCode),
		Detail:    "The answer is not a problem document; something between here and the service may have given it.",
		RequestID: response.Header.Get("X-Request-Id"),
	}
}

// IsJSON reports whether a response says that its body is JSON.
func IsJSON(response *http.Response) bool {
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// Unreadable is the error of a response whose body cannot be read.
func Unreadable(response *http.Response, err error) error {
	return fmt.Errorf("steward: the answer %d to %s %s cannot be read: %w", response.StatusCode, response.Request.Method, response.Request.URL.Path, err)
}
