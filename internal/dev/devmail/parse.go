package devmail

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"slices"
	"strings"
)

// content is what is in a mail.
type content struct {
	Subject string
	Headers []header // in the order of their names
	Text    string
	HTML    string
}

type header struct{ Name, Value string }

// deepest is how far parts may stand in parts.
const deepest = 5

// parse reads a mail as a reader would show it. A mail that is not well-formed is shown as the text
// that it is: this is where one looks for what went wrong.
func parse(raw []byte) content {
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return content{Subject: "(not a well-formed mail)", Text: strings.ToValidUTF8(string(raw), "\uFFFD")}
	}
	c := content{Subject: decoded(m.Header.Get("Subject"))}
	for name, values := range m.Header {
		for _, value := range values {
			c.Headers = append(c.Headers, header{name, decoded(value)})
		}
	}
	slices.SortFunc(c.Headers, func(a, b header) int { return strings.Compare(a.Name, b.Name) })
	c.take(m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body, 0)
	return c
}

// take adds one part: the first text and the first HTML are the mail's.
func (c *content) take(contentType, encoding string, body io.Reader, depth int) {
	kind, parameters, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = "text/plain"
	}
	if strings.HasPrefix(kind, "multipart/") && depth < deepest {
		for parts := multipart.NewReader(body, parameters["boundary"]); ; {
			part, err := parts.NextRawPart()
			if err != nil {
				return
			}
			c.take(part.Header.Get("Content-Type"), part.Header.Get("Content-Transfer-Encoding"), part, depth+1)
		}
	}
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	all, _ := io.ReadAll(body) // what can be read is shown
	text := strings.ReplaceAll(strings.ToValidUTF8(string(all), "\uFFFD"), "\r\n", "\n")
	switch {
	case kind == "text/plain" && c.Text == "":
		c.Text = text
	case kind == "text/html" && c.HTML == "":
		c.HTML = text
	}
}

func decoded(value string) string {
	if plain, err := new(mime.WordDecoder).DecodeHeader(value); err == nil {
		return plain
	}
	return value
}
