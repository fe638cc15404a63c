package mail

import (
	"bufio"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// script is a mail server that says what it is told to, command by command, and writes down what it
// was told.
type script struct {
	extensions []string
	recipient  string // the answer to RCPT
	data       string // the answer to DATA
	told       chan []string
}

func (s script) serve(t *testing.T) Settings {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close() //nolint:errcheck // the test is over then
		var told []string
		defer func() { s.told <- told }()
		in := bufio.NewReader(conn)
		say := func(text string) { _, _ = conn.Write([]byte(text + "\r\n")) }
		say("220 mx.test")
		for inContent := false; ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			line = strings.TrimRight(line, "\r\n")
			verb, _, _ := strings.Cut(line, " ")
			switch {
			case inContent:
				if line == "." {
					inContent = false
					told = append(told, ".")
					say("554 nobody to give it to")
				} else if len(told) == 0 || told[len(told)-1] != "content" {
					told = append(told, "content")
				}
				continue
			case verb == "EHLO":
				say("250-mx.test")
				for _, extension := range s.extensions {
					say("250-" + extension)
				}
				say("250 SIZE")
				continue
			case verb == "RCPT":
				say(s.recipient)
			case verb == "DATA":
				inContent = strings.HasPrefix(s.data, "354")
				say(s.data)
			case verb == "QUIT":
				say("221 bye")
				return
			default:
				say("250 ok")
			}
			if verb == "DATA" && in.Buffered() > 0 && slices.Contains(s.extensions, "PIPELINING") {
				told = append(told, "something behind DATA")
			}
			told = append(told, verb)
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return Settings{Host: "127.0.0.1", Port: number, Encryption: EncryptionNone, From: "Steward <no-reply@steward.example>", CommandTimeout: time.Minute}
}

// With several commands in one go a server may be ready for a content that it takes for nobody. It
// gets none of the mail, and the refusal is told as without.
func TestRefusedRecipientGetsNoContent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script script
		code   int
		told   []string
	}{
		"one by one":                    {script{recipient: "550 unknown", data: "354 go on"}, 550, []string{"MAIL", "RCPT"}},
		"together, refuses the content": {script{extensions: []string{"PIPELINING"}, recipient: "550 unknown", data: "503 nobody"}, 550, []string{"MAIL", "RCPT", "DATA"}},
		"together, takes any content":   {script{extensions: []string{"PIPELINING"}, recipient: "451 later", data: "354 go on"}, 451, []string{"MAIL", "RCPT", "DATA", "."}},
		"together, refuses the mail":    {script{extensions: []string{"PIPELINING"}, recipient: "250 ok", data: "354 go on"}, 554, []string{"MAIL", "RCPT", "DATA", "content", "."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.script.told = make(chan []string, 1)
			s, err := NewSender(c.script.serve(t), time.Now)
			if err != nil {
				t.Fatal(err)
			}
			failure, ok := s.Send(t.Context(), Composed(alert(t, "ada@acme.example")), messageID).(*Error)
			if !ok || failure.Code() != c.code {
				t.Errorf("got %v, want %d", failure, c.code)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if told := <-c.script.told; !slices.Equal(told, c.told) {
				t.Errorf("the server was told %q, want %q", told, c.told)
			}
		})
	}
}
