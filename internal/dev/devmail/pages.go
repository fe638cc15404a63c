package devmail

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed pages
var files embed.FS

const (
	pagePolicy = "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	// A mail may show its own styles and nothing else. It has an origin of its own, so it cannot
	// reach the mailbox, and its links open outside.
	mailPolicy = "default-src 'none'; style-src %s; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; " +
		"sandbox allow-popups allow-popups-to-escape-sandbox"
)

// listView and mailView are what the pages are made from. Root leads from the page to the mailbox.
type listView struct {
	Root  string
	Title string
	To    string
	Mails []row
}

type row struct {
	ID, To, Subject, At, Machine string
}

type mailView struct {
	Root  string
	Title string
	row
	content
	View string // "html" or "text"
}

type shown struct {
	ID      string    `json:"id"`
	To      string    `json:"to"` // several are separated by a comma and a space
	Subject string    `json:"subject"`
	Text    string    `json:"text"`
	HTML    string    `json:"html"`
	At      time.Time `json:"at"`
}

func (s *Server) newPages() (http.Handler, error) {
	templates, err := template.ParseFS(files, "pages/*.html")
	if err != nil {
		return nil, fmt.Errorf("devmail: %w", err)
	}
	render := func(w http.ResponseWriter, status int, name string, view any) {
		var out bytes.Buffer
		if err := templates.ExecuteTemplate(&out, name, view); err != nil {
			s.log.Error("a page of the mailbox cannot be shown", "error", err)
			http.Error(w, "This page cannot be shown.", http.StatusInternalServerError)
			return
		}
		answer(w, status, "text/html; charset=utf-8", pagePolicy, out.Bytes())
	}
	lost := func(w http.ResponseWriter, root string) {
		render(w, http.StatusNotFound, "lost.html", listView{Root: root, Title: "There is no such mail"})
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		to := r.URL.Query().Get("to")
		mails := s.newestFirst(to)
		w.Header().Set("Vary", "Accept")
		if wantsJSON(r.Header.Get("Accept")) {
			list := make([]shown, 0, len(mails)) // not nil: an empty list is [] in JSON
			for _, m := range mails {
				c := m.read()
				list = append(list, shown{m.id, strings.Join(m.to, ", "), c.Subject, c.Text, c.HTML, m.at})
			}
			body, err := json.Marshal(map[string]any{"data": list})
			if err != nil {
				http.Error(w, "The list cannot be written.", http.StatusInternalServerError)
				return
			}
			answer(w, http.StatusOK, "application/json", pagePolicy, body)
			return
		}
		view := listView{Title: "Mailbox", To: to}
		for _, m := range mails {
			view.Mails = append(view.Mails, m.row())
		}
		render(w, http.StatusOK, "list.html", view)
	})
	mux.HandleFunc("DELETE /{$}", func(w http.ResponseWriter, _ *http.Request) {
		s.remove(func(*caught) bool { return true })
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /mails/{id}", func(w http.ResponseWriter, r *http.Request) {
		m, ok := s.find(r.PathValue("id"))
		if !ok {
			lost(w, "../")
			return
		}
		view := mailView{Root: "../", row: m.row(), content: m.read(), View: r.URL.Query().Get("view")}
		view.Title = view.row.Subject
		if view.View != "text" || view.Text == "" {
			view.View = "html"
		}
		if view.HTML == "" {
			view.View = "text"
		}
		render(w, http.StatusOK, "mail.html", view)
	})
	mux.HandleFunc("GET /mails/{id}/html", func(w http.ResponseWriter, r *http.Request) {
		m, ok := s.find(r.PathValue("id"))
		if !ok || m.read().HTML == "" {
			lost(w, "../../")
			return
		}
		html := m.read().HTML
		answer(
			w,
			http.StatusOK,
			"text/html; charset=utf-8",
			fmt.Sprintf(mailPolicy, styleSources(html)),
			[]byte(withLinksOutside(html)),
		)
	})
	for name, contentType := range map[string]string{"mailbox.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"} {
		file, err := files.ReadFile("pages/" + name)
		if err != nil {
			return nil, fmt.Errorf("devmail: %w", err)
		}
		mux.HandleFunc(
			"GET /"+name,
			func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, contentType, pagePolicy, file) },
		)
	}
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		lost(w, strings.Repeat("../", max(strings.Count(r.URL.Path, "/")-1, 0)))
	})
	return mux, nil
}

func answer(w http.ResponseWriter, status int, contentType, policy string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Content-Security-Policy", policy)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (m *caught) row() row {
	subject := m.read().Subject
	if subject == "" {
		subject = "(no subject)"
	}
	return row{
		m.id,
		strings.Join(m.to, ", "),
		subject,
		m.at.Format("2 Jan 2006, 15:04:05") + " UTC",
		m.at.Format(time.RFC3339),
	}
}

// wantsJSON tells whether an Accept header names JSON and not HTML. Browsers name HTML.
func wantsJSON(accept string) bool {
	asked := false
	for part := range strings.SplitSeq(accept, ",") {
		switch kind, _, _ := mime.ParseMediaType(part); kind {
		case "application/json":
			asked = true
		case "text/html":
			return false
		}
	}
	return asked
}

// styleSources allows the style elements of a mail one by one, by their hash, and so nothing else:
// not a style attribute, not another sheet.
func styleSources(html string) string {
	elements := regexp.MustCompile(`(?is)<style[^>]*>(.*?)</style>`).FindAllStringSubmatch(html, -1)
	if len(elements) == 0 {
		return "'none'"
	}
	sources := make([]string, 0, len(elements))
	for _, element := range elements {
		sum := sha256.Sum256([]byte(element[1]))
		sources = append(sources, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	return strings.Join(sources, " ")
}

// withLinksOutside makes the links of a mail open in a tab of their own: in the frame that shows
// the mail, no page of the service may be shown.
func withLinksOutside(html string) string {
	head := regexp.MustCompile(`(?i)<head[^>]*>`).FindStringIndex(html)
	if head == nil {
		return `<base target="_blank">` + html
	}
	return html[:head[1]] + `<base target="_blank">` + html[head[1]:]
}
