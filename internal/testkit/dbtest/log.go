package dbtest

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
)

// tailSize is how much of its log a failed test shows.
const tailSize = 8 << 10

// Log keeps what a test logs, at every level, as lines of JSON. The zero value is empty and ready.
// Safe for concurrent use.
type Log struct {
	mutex sync.Mutex
	lines bytes.Buffer
}

// Logger returns a logger that writes here.
func (l *Log) Logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Write implements io.Writer, for whatever logs without slog.
func (l *Log) Write(line []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.lines.Write(line)
}

// String returns the whole log, for searching it for what must not be there.
func (l *Log) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.lines.String()
}

// Records returns the lines as objects, oldest first: "msg", "level", "time" and the attributes. A
// line that is not JSON has only a "msg".
func (l *Log) Records() []map[string]any {
	var records []map[string]any
	for line := range bytes.Lines([]byte(l.String())) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		var record map[string]any
		if err := json.Unmarshal(line, &record); err != nil {
			record = map[string]any{slog.MessageKey: string(line)}
		}
		records = append(records, record)
	}
	return records
}

// Messages returns the messages alone, oldest first.
func (l *Log) Messages() []string {
	var messages []string
	for _, record := range l.Records() {
		if message, ok := record[slog.MessageKey].(string); ok {
			messages = append(messages, message)
		}
	}
	return messages
}

// Forget empties the log.
func (l *Log) Forget() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.lines.Reset()
}

// tail returns the last lines.
func (l *Log) tail() string {
	text := l.String()
	if len(text) <= tailSize {
		return text
	}
	lines := slices.Collect(bytes.Lines([]byte(text[len(text)-tailSize:])))
	return string(bytes.Join(lines[1:], nil)) // the first one is cut
}
