package contract

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/fusionspim/steward/internal/infra/strictjson"
)

// CheckResponse holds an answer against the operation, and is meant for tests: the status has to be declared, the declared headers there and
// right, the media type declared, and the body according to its schema. The error lists every fault that was found, by JSON pointer and without
// values.
func (c *Contract) CheckResponse(op *Operation, status int, header http.Header, body []byte) error {
	where := fmt.Sprintf("contract: %s answered %d", op.ID, status)
	declared := op.declaredResponse(status)
	if declared == nil {
		return fmt.Errorf("%s, which is not declared", where)
	}
	var found report
	for _, name := range sortedKeys(declared.Headers) {
		if err := op.checkResponseHeader(name, declared.Headers[name].Value, header, &found); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	if status == http.StatusNoContent || status == http.StatusNotModified || len(declared.Content) == 0 {
		if len(body) > 0 {
			found.add("", "is a body where none is declared")
		}
		return found.plain(where)
	}
	if len(body) == 0 {
		found.add("", "is an empty body where one is declared")
		return found.plain(where)
	}
	mediaType, parameters, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || len(header["Content-Type"]) != 1 {
		return fmt.Errorf("%s without one readable Content-Type", where)
	}
	media, ok := declared.Content[mediaType]
	if !ok {
		return fmt.Errorf("%s with the Content-Type %s, which is not declared", where, mediaType)
	}
	if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		found.add("header Content-Type", "names another charset than UTF-8")
	}
	if !isJSON(mediaType) {
		return found.plain(where)
	}
	document, violation := strictjson.Decode(body)
	if violation != nil {
		found.add(pointer(violation.Path), violation.Detail)
		return found.plain(where)
	}
	if media.Schema != nil {
		op.judge(media.Schema.Value, document.Value, pointer, &found)
	}
	return found.plain(where)
}

// Declares tells whether the document knows the answer with this status.
func (op *Operation) Declares(status int) bool { return op.declaredResponse(status) != nil }

// declaredResponse finds the response for a status: its own, that of its class such as 4XX, or the default one.
func (op *Operation) declaredResponse(status int) *openapi3.Response {
	if op.responses == nil {
		return nil
	}
	for _, key := range []string{fmt.Sprintf("%03d", status), fmt.Sprintf("%dXX", status/100), "default"} {
		if ref := op.responses.Value(key); ref != nil && ref.Value != nil {
			return ref.Value
		}
	}
	return nil
}

func (op *Operation) checkResponseHeader(name string, declared *openapi3.Header, header http.Header, to *report) error {
	texts := header.Values(name)
	if len(texts) == 0 {
		if declared.Required {
			to.add("header "+name, required)
		}
		return nil
	}
	described := declared.Parameter
	described.Name, described.In = name, openapi3.ParameterInHeader
	if isReservedHeader(name) {
		return nil
	}
	p, err := newParameter(&described)
	if err != nil {
		return fmt.Errorf("the declared header %s: %w", name, err)
	}
	for _, text := range texts { // each by itself: Set-Cookie and Link may come several times
		p.check(op, []string{text}, to)
	}
	return nil
}

// plain makes an error for a test's log, or nil when nothing was found.
func (r *report) plain(where string) error {
	if r.fault() == nil {
		return nil
	}
	lines := make([]string, len(r.members))
	for i, member := range r.members {
		lines[i] = fmt.Sprintf("%q %s", member.Pointer, member.Detail)
	}
	return fmt.Errorf("%s against the contract: %s", where, strings.Join(lines, "; "))
}
