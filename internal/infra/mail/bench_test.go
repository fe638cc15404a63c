package mail

import (
	"testing"
	"time"
)

// BenchmarkEncodeAlert words and encodes one alert that goes to many people, without sending it.
func BenchmarkEncodeAlert(b *testing.B) {
	wording, err := WordAlert(Alert{
		Severity: SeverityError, Subject: "Import stopped", Body: "The import of the catalogue stopped at row 1,204.\n\nNothing was changed.",
		CustomerName: "Acme Bearings", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Why: "You get this because you are opted in to alerts of Acme Bearings.",
	})
	if err != nil {
		b.Fatal(err)
	}
	from, err := parseSender("Steward <steward@example.com>")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		message, err := wording.To("anna.berg@example.com", "https://steward.example.com/unsubscribe/AZ8b2M9xcl6Q1jZyH0kPUQGfG9jPcXJekNY2ch9JD1EAAAAAAAAAAAAAAAAAAAAA")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := encoded(message, from, "abc@example.com", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)); err != nil {
			b.Fatal(err)
		}
	}
}
