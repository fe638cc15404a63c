package sensitive_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/base/sensitive"
)

const secret = "correct-horse"

// holder stands for any type with a secret in it.
type holder struct {
	Name   string
	Inner  sensitive.String
	Many   []sensitive.String
	ByName map[string]sensitive.String
	Any    any
}

// clean fails when a text shows the secret in any form that fmt has for a string.
func clean(t *testing.T, how, text string) {
	t.Helper()
	for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprint([]byte(secret))} {
		if strings.Contains(text, form) {
			t.Errorf("%s shows the secret: %s", how, text)
		}
	}
}

func TestNoVerbShowsTheSecret(t *testing.T) {
	t.Parallel()
	hidden := sensitive.New(secret)
	held := holder{
		Name: "n", Inner: hidden, Many: []sensitive.String{hidden},
		ByName: map[string]sensitive.String{"k": hidden}, Any: hidden,
	}
	for verb := 'A'; verb <= 'z'; verb++ {
		for _, flags := range []string{"", "+", "#", "-20", "020", " ", ".3"} {
			format := "%" + flags + string(verb)
			for _, value := range []any{hidden, &hidden, held, &held, []any{hidden}, struct{ s any }{hidden}} {
				clean(t, fmt.Sprintf("%s of %T", format, value), fmt.Sprintf(format, value))
			}
		}
	}
	for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, hidden); got != "***" {
			t.Errorf("%s gives %q", verb, got)
		}
	}
	clean(t, "String", hidden.String())
	clean(t, "GoString", hidden.GoString())
	clean(t, "an error", fmt.Errorf("failed with %v", hidden).Error())
}

func TestNoLoggerShowsTheSecret(t *testing.T) {
	t.Parallel()
	hidden := sensitive.New(secret)
	held := holder{Inner: hidden, Many: []sensitive.String{hidden}, Any: hidden}
	var out bytes.Buffer
	for _, logger := range []*slog.Logger{
		slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil)),
	} {
		logger.Info("x", "secret", hidden, "pointer", &hidden, "held", held, slog.Any("any", hidden))
		logger.With("secret", hidden).WithGroup("g").Info("x", slog.Group("inner", "secret", hidden))
	}
	log.New(&out, "", 0).Println(hidden, held)
	clean(t, "a log", out.String())
	if !strings.Contains(out.String(), "***") {
		t.Errorf("nothing was logged: %s", out.String())
	}
}

func TestNoEncoderShowsTheSecret(t *testing.T) {
	t.Parallel()
	hidden := sensitive.New(secret)
	text, err := json.Marshal(holder{Inner: hidden, Many: []sensitive.String{hidden}, Any: &hidden})
	if err != nil {
		t.Fatal(err)
	}
	clean(t, "JSON", string(text))
	if text, err = json.Marshal(map[string]any{"key": hidden}); err != nil || string(text) != `{"key":"***"}` {
		t.Errorf("JSON gives %s, %v", text, err)
	}
	var out bytes.Buffer
	if err := xml.NewEncoder(&out).Encode(struct {
		XMLName xml.Name `xml:"x"`
		Inner   sensitive.String
	}{Inner: hidden}); err != nil {
		t.Fatal(err)
	}
	clean(t, "XML", out.String())
}

func TestRevealGivesTheSecret(t *testing.T) {
	t.Parallel()
	if got := sensitive.New(secret).Reveal(); got != secret {
		t.Errorf("got %q", got)
	}
	var read struct{ Password sensitive.String }
	if err := json.Unmarshal([]byte(`{"Password":"correct-horse"}`), &read); err != nil || read.Password.Reveal() != secret {
		t.Errorf("read from JSON: %q, %v", read.Password.Reveal(), err)
	}
	if !(sensitive.String{}).IsEmpty() || sensitive.New(secret).IsEmpty() {
		t.Error("IsEmpty does not report whether there is a secret")
	}
}
