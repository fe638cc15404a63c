package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
)

// batchSize is how many entries of the trail are sent at once.
const batchSize = 100

// operation is one thing to measure. Next writes a request, a different one each time.
type operation struct {
	name string
	mark float64 // the ratio to reach
	next func(to *bytes.Buffer)
}

func (o operation) matches(word string) bool {
	return strings.Contains(strings.ToLower(o.name), strings.ToLower(word))
}

func operations(data dataset) []operation {
	anybody := func() string { return data.users[rand.IntN(len(data.users))].String() }
	return []operation{
		{"GET /v1/me", 0.5, func(to *bytes.Buffer) { write(to, "GET", "/v1/me", data.token, "") }},
		{
			"GET /v1/users/{id}",
			0.5,
			func(to *bytes.Buffer) { write(to, "GET", "/v1/users/"+anybody(), data.token, "") },
		},
		{
			"GET /v1/users?limit=50",
			0.6,
			func(to *bytes.Buffer) { write(to, "GET", "/v1/users?limit=50", data.token, "") },
		},
		{"PATCH /v1/users/{id}", 0.4, func(to *bytes.Buffer) {
			write(
				to,
				"PATCH",
				"/v1/users/"+anybody(),
				data.token,
				`{"first_name":"Noor `+strconv.Itoa(rand.IntN(1e9))+`"}`,
			)
		}},
		{
			"POST /v1/audit-entries ×100",
			0.6,
			func(to *bytes.Buffer) { write(to, "POST", "/v1/audit-entries", data.apiKey, batch(anybody)) },
		},
	}
}

func batch(anybody func() string) string {
	var body strings.Builder
	now := time.Now().UTC().Format(time.RFC3339Nano)
	for i := range batchSize {
		separator := ","
		if i == 0 {
			separator = "["
		}
		body.WriteString(
			separator + `{"actor_user_id":"` + anybody() + `","action":"product.updated","target":{"type":"product","id":"` +
				strconv.Itoa(
					48000000+rand.IntN(5000),
				) + `"},"occurred_at":"` + now + `","source_id":"pim-` + id.New[id.Entry]().String() +
				`","details":{"changed":["price","stock"],"revision":` + strconv.Itoa(
				i,
			) + `}}`,
		)
	}
	body.WriteString("]")
	return body.String()
}

// write writes a request as a program would send it.
func write(to *bytes.Buffer, method, path, credential, body string) {
	to.Reset()
	to.WriteString(
		method + " " + path + " HTTP/1.1\r\nHost: steward.example\r\nUser-Agent: compare\r\nAccept: application/json\r\nAuthorization: Bearer " + credential + "\r\n",
	)
	if body != "" {
		to.WriteString("Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n")
	}
	to.WriteString("\r\n" + body)
}

// signIn returns an access token.
func signIn(ctx context.Context, address string, data dataset) (string, error) {
	body, err := json.Marshal(map[string]string{"customer": data.slug, "email": data.email, "password": secret})
	if err != nil {
		return "", err
	}
	c, err := dial(ctx, address)
	if err != nil {
		return "", err
	}
	defer c.close()
	write(&c.request, "POST", "/v1/sessions", "none", string(body))
	var answer bytes.Buffer
	if err := c.exchange(&answer); err != nil {
		return "", err
	}
	var tokens struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(answer.Bytes(), &tokens); err != nil {
		return "", err
	}
	return tokens.AccessToken, nil
}

// client is one keep-alive connection. It reads no more of an answer than it must, for what it
// spends is taken from both servers.
type client struct {
	conn    net.Conn
	in      *bufio.Reader
	request bytes.Buffer
}

func dial(ctx context.Context, address string) (*client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}, conn.SetDeadline(time.Now().Add(deadline))
}

func (c *client) close() { _ = c.conn.Close() } // nothing is under way

// exchange sends the request and reads the answer, which must be a success. The body goes to the
// buffer, if there is one.
func (c *client) exchange(body *bytes.Buffer) error {
	if _, err := c.conn.Write(c.request.Bytes()); err != nil {
		return err
	}
	status, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	good := bytes.HasPrefix(status, []byte("HTTP/1.1 20"))
	if !good && body == nil {
		body = &bytes.Buffer{}
	}
	failure := ""
	if !good {
		failure = strings.TrimSpace(string(status))
	}
	length, chunked := 0, false
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		} else if bytes.Equal(line, []byte("Transfer-Encoding: chunked")) {
			chunked = true
		}
	}
	if err := c.body(length, chunked, body); err != nil {
		return err
	}
	if !good {
		return fmt.Errorf("%s: %s", failure, body)
	}
	return nil
}

func (c *client) body(length int, chunked bool, to *bytes.Buffer) error {
	if !chunked {
		return c.take(length, to)
	}
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(string(bytes.TrimRight(line, "\r\n")), 16, 32)
		if err != nil {
			return err
		}
		if err := c.take(int(size), to); err != nil {
			return err
		}
		if _, err := c.in.Discard(len("\r\n")); err != nil {
			return err
		}
		if size == 0 {
			return nil
		}
	}
}

func (c *client) take(length int, to *bytes.Buffer) error {
	if to == nil {
		_, err := c.in.Discard(length)
		return err
	}
	_, err := io.CopyN(to, c.in, int64(length))
	return err
}

// turn is what one server did in one round.
type turn struct {
	perSecond float64
	took      []time.Duration // of each request
}

// drive lets every client send one request after the other for a while.
func drive(ctx context.Context, what operation, clients []*client, lasting time.Duration) (turn, error) {
	var mutex sync.Mutex
	var group sync.WaitGroup
	var all turn
	var failures []error
	began := time.Now()
	until := began.Add(lasting)
	for _, c := range clients {
		group.Go(func() {
			var took []time.Duration
			var err error
			for at := time.Now(); at.Before(until) && ctx.Err() == nil; {
				what.next(&c.request)
				sent := time.Now()
				if err = c.exchange(nil); err != nil {
					break
				}
				at = time.Now()
				took = append(took, at.Sub(sent))
			}
			mutex.Lock()
			defer mutex.Unlock()
			all.took = append(all.took, took...)
			if err != nil {
				failures = append(failures, fmt.Errorf("%s: %w", what.name, err))
			}
		})
	}
	group.Wait()
	all.perSecond = float64(len(all.took)) / time.Since(began).Seconds()
	return all, errors.Join(append(failures, ctx.Err())...)
}

// dialAll opens the connections of all clients.
func dialAll(ctx context.Context, address string, count int) (clients []*client, closeAll func(), err error) {
	closeAll = func() {
		for _, c := range clients {
			c.close()
		}
	}
	for range count {
		c, err := dial(ctx, address)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		clients = append(clients, c)
	}
	return clients, closeAll, nil
}

// compare measures one operation on both servers in turns. The ratio is the median of those of the
// rounds, whose two turns follow each other at once: whatever else the machine does for longer than
// a turn hits both.
func compare(ctx context.Context, o options, what operation, idealAddress, ourAddress string) (measured, error) {
	turnLength := time.Duration(o.seconds / float64(o.rounds) * float64(time.Second))
	var servers [2]struct {
		clients []*client
		rates   []float64
		took    []time.Duration
	}
	const ideal, ours = 0, 1
	for i, address := range []string{idealAddress, ourAddress} {
		clients, closeAll, err := dialAll(ctx, address, o.clients)
		if err != nil {
			return measured{}, err
		}
		defer closeAll()
		servers[i].clients = clients
	}
	for round := -1; round < o.rounds; round++ { // the one before the first is to get warm
		for place := range 2 {
			which := (round + 1 + place) % 2 // each begins as often as the other
			stopProfile, err := profile(o.profile, which == ours && round >= 0, round == 0)
			if err != nil {
				return measured{}, err
			}
			did, err := drive(ctx, what, servers[which].clients, turnLength)
			if err = errors.Join(err, stopProfile()); err != nil {
				return measured{}, err
			}
			if round >= 0 {
				servers[which].rates = append(servers[which].rates, did.perSecond)
				servers[which].took = append(servers[which].took, did.took...)
			}
		}
	}
	one := measured{
		Operation:   what.name,
		Mark:        what.mark,
		Ideal:       median(servers[ideal].rates),
		Ours:        median(servers[ours].rates),
		IdealRounds: servers[ideal].rates,
		OurRounds:   servers[ours].rates,
		IdealP50: milliseconds(
			quantile(servers[ideal].took, 0.5),
		),
		IdealP99: milliseconds(quantile(servers[ideal].took, 0.99)),
		P50:      milliseconds(quantile(servers[ours].took, 0.5)),
		P99:      milliseconds(quantile(servers[ours].took, 0.99)),
	}
	ratios := make([]float64, o.rounds)
	for i := range ratios {
		ratios[i] = servers[ours].rates[i] / servers[ideal].rates[i]
	}
	one.Ratio = median(ratios)
	return one, nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

func quantile(values []time.Duration, share float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[int(share*float64(len(values)-1))]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// profile starts a CPU profile of a turn, if one was asked for. CPU profiles cannot be continued,
// so only the first turn of the service is in it.
func profile(file string, ours, first bool) (stop func() error, err error) {
	if file == "" || !ours || !first {
		return func() error { return nil }, nil
	}
	to, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(to); err != nil {
		return nil, errors.Join(err, to.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return to.Close()
	}, nil
}
