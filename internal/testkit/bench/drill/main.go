// Command drill shows that erasures survive a restore: it runs the real program with a private
// PostgreSQL, makes people, a backup, and acts that must outlive it, brings the backup into an
// empty database, and looks for the erased in everything that is left.
//
// Its variants: the service is killed in the middle of a replay, it is started a second
// time, an older ledger comes back with the store, somebody registers with the address of an erased
// person, and a whole customer has left. The report is a file.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fusionspim/steward/internal/dev/devpg"
)

func main() {
	rounds := flag.Int("rounds", 1, "how many rounds, each with other people and other acts")
	people := flag.Int("people", 40, "how many people there are in each")
	report := flag.String("report", "drill-report.json", "the file of the report")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "makes the same people and acts again")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *rounds, *people, *seed, *report)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "drill:", err)
		os.Exit(1)
	}
}

// outcome is the report.
type outcome struct {
	Seed     uint64  `json:"seed"`
	Rounds   []round `json:"rounds"`
	Seconds  float64 `json:"seconds"`
	Passed   bool    `json:"passed"`
	Failures int     `json:"failures"`
}

func run(ctx context.Context, rounds, people int, seed uint64, file string) (err error) {
	if rounds < 1 || people < 12 {
		return errors.New("there must be one round at least, with 12 people or more")
	}
	dir, err := os.MkdirTemp("", "steward-drill-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, "steward")
	if output, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/fusionspim/steward/cmd/steward").
		CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, output)
	}
	server, err := devpg.Start(ctx, devpg.Options{Dir: filepath.Join(dir, "postgres"), Ephemeral: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop(context.WithoutCancel(ctx))) }()
	began := time.Now()
	result := outcome{Seed: seed}
	for number := range rounds {
		d := &drill{
			ctx:     ctx,
			program: program,
			server:  server,
			dir:     filepath.Join(dir, fmt.Sprint("round-", number)),
			people:  people,
			name:    fmt.Sprintf("round%d", number),
			random:  rand.New(rand.NewPCG(seed, uint64(number))),
		}
		one := d.round()
		result.Failures += len(one.Failures)
		result.Rounds = append(result.Rounds, one)
		fmt.Fprintf(
			os.Stderr,
			"round %d of %d: %d acts, closed for %.1f s, %d failures\n",
			number+1,
			rounds,
			one.Acts,
			one.ClosedSeconds,
			len(one.Failures),
		)
		for _, failure := range one.Failures {
			fmt.Fprintln(os.Stderr, "  ", failure)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	result.Seconds, result.Passed = time.Since(began).Seconds(), result.Failures == 0
	content, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, append(content, '\n'), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "the report is in %s\n", file)
	if !result.Passed {
		return fmt.Errorf("%d failures", result.Failures)
	}
	return nil
}
