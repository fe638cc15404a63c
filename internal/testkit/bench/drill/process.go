package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const patience = 2 * time.Minute

// serving is a running steward serve.
type serving struct {
	command *exec.Cmd
	url     string
	log     *kept
}

// kept is a log that is read while it is written.
type kept struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (k *kept) Write(text []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.Write(text)
}

func (k *kept) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.String()
}

// command runs the program once, and decodes what it prints.
func (d *drill) command(into any, environment []string, arguments ...string) error {
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	command := exec.CommandContext(ctx, d.program, arguments...)
	command.Env = append(d.environment(), environment...)
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	err := command.Run()
	d.said.Write(said.Bytes()) //nolint:errcheck // to memory
	if err != nil {
		return fmt.Errorf("steward %s: %w: %s%s", strings.Join(arguments, " "), err, out.String(), said.String())
	}
	if into != nil {
		return json.Unmarshal(out.Bytes(), into)
	}
	return nil
}

// serve starts the program and waits until it listens.
func (d *drill) serve(environment ...string) (*serving, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	s := &serving{command: exec.Command(d.program, "serve"), url: "http://" + address, log: d.said}
	s.command.Env = append(
		append(d.environment(), "STEWARD_HTTP_ADDR="+address, "STEWARD_METRICS_ADDR=127.0.0.1:0"),
		environment...)
	s.command.Stderr = d.said
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	for began := time.Now(); time.Since(began) < patience; time.Sleep(20 * time.Millisecond) {
		if answer, err := s.call("GET", "/livez", "", nil); err == nil && answer.status == http.StatusOK {
			return s, nil
		}
	}
	return nil, errors.Join(errors.New("steward serve does not listen"), s.end(syscall.SIGKILL))
}

// end ends the program by a signal.
func (s *serving) end(by syscall.Signal) error {
	if err := s.command.Process.Signal(by); err != nil {
		return err
	}
	err := s.command.Wait()
	var ended *exec.ExitError
	if errors.As(err, &ended) && by == syscall.SIGKILL {
		return nil
	}
	return err
}

// opened waits until the service lets requests in, and tells for how long it was closed.
func (s *serving) opened() (time.Duration, error) {
	began := time.Now()
	for time.Since(began) < patience {
		if answer, err := s.call("GET", "/readyz", "", nil); err == nil && answer.status == http.StatusOK {
			return time.Since(began), nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, errors.New("the service did not open")
}

type answer struct {
	status int
	body   []byte
}

func (a answer) text(member string) string {
	var members map[string]any
	_ = json.Unmarshal(a.body, &members) // what is no object has no members
	text, _ := members[member].(string)
	return text
}

func (s *serving) call(method, path, credential string, body any) (answer, error) {
	var content io.Reader = http.NoBody
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequest(method, s.url+path, content)
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if credential != "" {
		request.Header.Set("Authorization", "Bearer "+credential)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	read, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, read}, err
}
