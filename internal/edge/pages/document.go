package pages

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// document is content that stays the same while the process runs. It is served whole or as "not
// modified", compressed where the client accepts that. Either plain or packed is held, the other is
// derived on demand.
type document struct {
	contentType  string
	cacheControl string
	version      string        // a digest of the content
	plain        []byte        // nil where only the compressed form is kept
	packed       func() []byte // the compressed form
}

func newDocument(contentType, cacheControl string, plain []byte) *document {
	return &document{
		contentType: contentType, cacheControl: cacheControl, version: digest(plain), plain: plain,
		packed: sync.OnceValue(func() []byte { return pack(plain) }),
	}
}

// newPackedDocument holds only the compressed form: the content is large, and few clients ask for
// it uncompressed.
func newPackedDocument(contentType, cacheControl string, packed []byte) *document {
	return &document{
		contentType:  contentType,
		cacheControl: cacheControl,
		version:      digest(packed),
		packed:       func() []byte { return packed },
	}
}

// ServeHTTP serves the document with its own caching headers.
func (d *document) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.serve(w, r, d.cacheControl) }

func (d *document) serve(w http.ResponseWriter, r *http.Request, cacheControl string) {
	header := w.Header()
	header.Add("Vary", "Accept-Encoding")
	header.Set("Cache-Control", cacheControl)
	header.Set("X-Content-Type-Options", "nosniff")
	zipped := takesGzip(r.Header.Values("Accept-Encoding"))
	tag := `"` + d.version + `"`
	if zipped {
		tag = `"` + d.version + `-gzip"` // two forms are two strong tags
	}
	header.Set("ETag", tag)
	if names(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", d.contentType)
	body, err := d.form(zipped)
	if err != nil { // an embedded file that does not decompress; a test reads them all
		header.Del("ETag")
		header.Set("Cache-Control", "no-store")
		http.Error(w, "This file cannot be read just now.", http.StatusInternalServerError)
		return
	}
	if zipped {
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return
	}
	_, _ = w.Write(body) // the client may be gone
}

func (d *document) form(zipped bool) ([]byte, error) {
	switch {
	case zipped:
		return d.packed(), nil
	case d.plain != nil:
		return d.plain, nil
	default:
		return unpack(d.packed())
	}
}

func pack(plain []byte) []byte {
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	_, _ = writer.Write(plain) // a buffer never fails
	_ = writer.Close()
	return out.Bytes()
}

func unpack(packed []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("pages: unpack a file: %w", err)
	}
	plain, err := io.ReadAll(reader)
	if err != nil {
		return nil, fmt.Errorf("pages: unpack a file: %w", err)
	}
	return plain, nil
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:8])
}

// takesGzip parses Accept-Encoding (RFC 9110, section 12.5.3). A coding that is named outweighs the
// asterisk.
func takesGzip(lines []string) bool {
	takes := false
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			coding, parameters, _ := strings.Cut(item, ";")
			switch strings.ToLower(strings.TrimSpace(coding)) {
			case "gzip", "x-gzip":
				return weight(parameters) > 0
			case "*":
				takes = weight(parameters) > 0
			}
		}
	}
	return takes
}

// weight parses "q=0.5". A malformed weight counts as zero: the plain form is always acceptable.
func weight(parameters string) float64 {
	name, value, given := strings.Cut(strings.TrimSpace(parameters), "=")
	if !given {
		return 1
	}
	weight, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !strings.EqualFold(strings.TrimSpace(name), "q") {
		return 0
	}
	return weight
}

// names reports whether If-None-Match contains a tag, by weak comparison (RFC 9110, section
// 13.1.2). Our tags contain no comma.
func names(lines []string, tag string) bool {
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			item = strings.TrimSpace(item)
			if item == "*" || strings.TrimPrefix(item, "W/") == tag {
				return true
			}
		}
	}
	return false
}
