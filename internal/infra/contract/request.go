package contract

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/infra/strictjson"
)

// Check holds a request against the operation: the path parameters, the query, the declared headers, and the body. pathParams holds the
// unescaped path parameters by their names in the template.
//
// It returns nil or a *fault.Fault: ResourceNotFound for a path parameter of the wrong form, because nothing can have such an address;
// UnsupportedMediaType; BodyTooLarge; MalformedRequest with the members at fault for all else. The query and the headers are told together,
// the body only once both are right.
//
// A JSON body is read whole and r.Body replaced by a reader of the same text, so that what is bound is what was judged (whole numbers written
// as 1.0 or 1e3 come out as 1 or 1000). A body of another media type is not read: r.Body then answers with a BodyTooLarge fault as an error
// where it goes beyond the limit.
func (op *Operation) Check(r *http.Request, pathParams map[string]string) error {
	for i := range op.path {
		if !op.path[i].fits(op, pathParams[op.path[i].name]) {
			return fault.New(fault.ResourceNotFound, "Nothing with that address exists for this caller.")
		}
	}
	var found report
	op.checkQuery(r.URL.RawQuery, &found)
	op.checkHeaders(r.Header, &found)
	if err := found.fault(); err != nil {
		return err
	}
	if !op.HasBody {
		return refuseBody(r)
	}
	return op.checkBody(r)
}

// longestNothing bounds what is read of a body that must say nothing, in bytes.
const longestNothing = 64

// refuseBody refuses a body that no one would read. An empty one is fine, and so is an empty JSON object: many clients send Content-Length: 0 or {} with every POST, also DELETE.
func refuseBody(r *http.Request) error {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	said, err := io.ReadAll(io.LimitReader(r.Body, longestNothing+1))
	if err != nil {
		return unreadable(err)
	}
	if left := bytes.TrimSpace(said); len(said) > longestNothing || len(left) > 0 && !isEmptyObject(left) {
		return fault.New(fault.MalformedRequest, "This operation takes no body.")
	}
	r.Body = http.NoBody
	return nil
}

// isEmptyObject tells whether a text is {}, with nothing but spaces in it.
func isEmptyObject(text []byte) bool {
	return text[0] == '{' && string(bytes.TrimLeft(text[1:], " \t\r\n")) == "}"
}

// unreadable is the fault of a body whose end never came.
func unreadable(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fault.Because(err, fault.BodyTooLarge, "The body is longer than this operation takes.")
	}
	return fault.Because(err, fault.MalformedRequest, "The body could not be read to its end.")
}

func (op *Operation) tooLarge() error {
	return fault.New(fault.BodyTooLarge, "The body is longer than this operation takes; the contract names the limit as x-max-body-bytes.")
}

// missing answers for an empty body.
func (op *Operation) missing() error {
	if op.bodyRequired {
		return fault.New(fault.MalformedRequest, "This operation needs a body.").At("", required)
	}
	return nil
}

func (op *Operation) checkBody(r *http.Request) error {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return op.missing()
	}
	if r.ContentLength > op.MaxBodyBytes {
		return op.tooLarge()
	}
	if r.ContentLength < 0 {
		// Of unknown length: it may be empty, which needs no media type. The byte is put back.
		first := make([]byte, 1)
		n, err := io.ReadFull(r.Body, first)
		if n == 0 && errors.Is(err, io.EOF) {
			r.Body = http.NoBody
			return op.missing()
		}
		if err != nil {
			return unreadable(err)
		}
		r.Body = &body{Reader: io.MultiReader(strings.NewReader(string(first)), r.Body), Closer: r.Body}
	}
	mediaType, err := op.mediaType(r.Header)
	if err != nil {
		return err
	}
	if !isJSON(mediaType) {
		r.Body = &limited{body: r.Body, left: op.MaxBodyBytes, fault: op.tooLarge()}
		return nil
	}
	text, err := op.readAll(r)
	if err != nil {
		return err
	}
	var found report
	document, violation := strictjson.Decode(text)
	if violation != nil {
		found.add(pointer(violation.Path), violation.Detail)
		return found.fault()
	}
	if op.judge(op.media[mediaType], document.Value, pointer, &found); len(found.members) > 0 {
		return found.fault()
	}
	r.Body = &body{Reader: strings.NewReader(document.Plain), Closer: r.Body}
	r.ContentLength = int64(len(document.Plain))
	return nil
}

// readAll reads the body up to its limit.
func (op *Operation) readAll(r *http.Request) ([]byte, error) {
	size := int64(4 << 10)
	if r.ContentLength >= 0 {
		// One more, so that the end is found without growing; not all of a long one, which was only promised so far.
		size = min(r.ContentLength+1, 256<<10)
	}
	text := make([]byte, 0, size)
	for {
		n, err := r.Body.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		switch {
		case int64(len(text)) > op.MaxBodyBytes:
			return nil, op.tooLarge()
		case errors.Is(err, io.EOF):
			return text, nil
		case err != nil:
			return nil, unreadable(err)
		case len(text) == cap(text):
			text = slices.Grow(text, len(text))
		}
	}
}

// mediaType returns the declared media type that the body is of, in small letters and without parameters.
func (op *Operation) mediaType(header http.Header) (string, error) {
	for _, coding := range header["Content-Encoding"] {
		if !strings.EqualFold(strings.TrimSpace(coding), "identity") {
			return "", fault.New(fault.UnsupportedMediaType, "Send the body without a content coding.")
		}
	}
	given := header["Content-Type"]
	if len(given) != 1 {
		return "", op.otherMedia()
	}
	if _, ok := op.media[given[0]]; ok { // as nearly every client writes it
		return given[0], nil
	}
	name, parameters, err := mime.ParseMediaType(given[0])
	if err != nil {
		return "", op.otherMedia()
	}
	if _, ok := op.media[name]; !ok {
		return "", op.otherMedia()
	}
	if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return "", fault.New(fault.UnsupportedMediaType, "Send the body in UTF-8.")
	}
	return name, nil
}

func (op *Operation) otherMedia() error {
	return fault.New(fault.UnsupportedMediaType, "Send the body with one Content-Type out of: "+strings.Join(sortedKeys(op.media), ", ")+".")
}

// body reads one thing and closes another.
type body struct {
	io.Reader
	io.Closer
}

// limited lets through as many bytes as the operation takes, and then answers with a fault.
type limited struct {
	body  io.ReadCloser
	left  int64 // bytes that may still come; below 0 once the limit was passed
	fault error
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, l.fault
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.body.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return n - 1, l.fault
	}
	return n, err
}

func (l *limited) Close() error { return l.body.Close() }
