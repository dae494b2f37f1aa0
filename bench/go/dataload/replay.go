package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"sluice/bench/meter"
)

// replayLoad reads every stream from its first record to its tail, all at once,
// as often as there is time. Before, it stores what is to be read.
func replayLoad(ctx context.Context, o Options, b backend) (meter.Result, error) {
	perStream := max(1, o.Stored/o.Streams)
	done := make(chan error, o.Streams)
	each := func(work func(stream int) error) error {
		for i := range o.Streams {
			go func() { done <- work(i) }()
		}
		var failed error
		for range o.Streams {
			failed = errors.Join(failed, <-done)
		}
		return failed
	}
	err := each(func(stream int) error { return fill(ctx, o, b, stream, perStream) })
	if err != nil {
		return meter.Result{}, fmt.Errorf("store: %w", err)
	}
	var records atomic.Int64
	repeat := func(atLeast time.Duration) error {
		for start := time.Now(); time.Since(start) < atLeast; {
			err := each(func(stream int) error {
				var seen int64
				err := b.replay(ctx, stream, int64(perStream), func(n int64) {
					seen += n
					records.Add(n)
				})
				if err == nil && seen != int64(perStream) {
					err = fmt.Errorf("stream %d: %d records, not %d", stream, seen, perStream)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := repeat(o.Warmup); err != nil {
		return meter.Result{}, err
	}
	before, err := meter.TakeSnapshot(o.PID, records.Load())
	if err != nil {
		return meter.Result{}, err
	}
	if err := repeat(o.Window); err != nil {
		return meter.Result{}, err
	}
	after, err := meter.TakeSnapshot(o.PID, records.Load())
	if err != nil {
		return meter.Result{}, err
	}
	result := meter.Between(before, after, o.Size, &meter.Histogram{})
	result.Drained = true
	return result, nil
}

func fill(ctx context.Context, o Options, b backend, stream, records int) error {
	a, err := b.appender(ctx, stream)
	if err != nil {
		return err
	}
	acks := make(chan error, 1)
	go func() {
		for {
			err := a.acked()
			if errors.Is(err, io.EOF) {
				err = nil
			} else if err == nil {
				continue
			}
			acks <- err
			return
		}
	}()
	for left := records; left > 0; {
		batch := min(left, o.Batch)
		if err := a.append(batch); err != nil {
			return err
		}
		left -= batch
	}
	if err := a.finish(); err != nil {
		return err
	}
	return <-acks
}
