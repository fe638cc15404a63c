package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fusionspim/steward/internal/testkit/bench"
	"github.com/fusionspim/steward/internal/testkit/bench/stage"
)

const starts = 5

// measureProcess starts the program several times, and then puts the last one under load.
func measureProcess(ctx context.Context, set *stage.Stage, data dataset, o options) (*process, error) {
	var p process
	for i := range starts {
		one, err := set.Serve(ctx)
		if err != nil {
			return nil, err
		}
		p.Starts = append(p.Starts, milliseconds(one.Took))
		if i == starts-1 {
			err = p.load(ctx, one, data, o)
		}
		if err = errors.Join(err, one.Stop()); err != nil {
			return nil, err
		}
	}
	p.StartMS = median(p.Starts)
	return &p, nil
}

// load drives every operation for a moment and then lets all clients sign in at once, and looks at
// the memory after each.
func (p *process) load(ctx context.Context, s *stage.Serving, data dataset, o options) error {
	p.RSSStarted, _ = bench.Memory(s.PID())
	for _, what := range operations(data) {
		clients, closeAll, err := dialAll(ctx, s.Address, o.clients)
		if err != nil {
			return err
		}
		_, err = drive(ctx, what, clients, time.Duration(o.seconds/6*float64(time.Second)))
		closeAll()
		if err != nil {
			return err
		}
	}
	p.RSSLoaded, p.PeakLoaded = bench.Memory(s.PID())
	failures := make([]error, o.clients)
	var group sync.WaitGroup
	for i := range failures {
		group.Go(func() { _, failures[i] = signIn(ctx, s.Address, data) })
	}
	group.Wait()
	_, p.PeakSignedIn = bench.Memory(s.PID())
	return errors.Join(failures...)
}
