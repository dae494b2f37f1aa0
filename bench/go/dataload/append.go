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

// appendLoad keeps so many records waiting for their acknowledgement, spread
// over the streams, and counts acknowledgements.
func appendLoad(ctx context.Context, o Options, b backend) (meter.Result, error) {
	var records atomic.Int64
	var measuring, stopped atomic.Bool
	latencies := make([]meter.Histogram, o.Streams)
	done := make(chan error, o.Streams)
	// Every stream is open, and has had its first acknowledgement.
	going := make(chan struct{}, o.Streams)
	pending := max(1, o.Pending/o.Batch/o.Streams)
	for i := range o.Streams {
		go func() {
			done <- func() error {
				a, err := b.appender(ctx, i)
				if err != nil {
					return err
				}
				// When each batch that waits was sent; its capacity bounds how many wait.
				sent := make(chan time.Time, pending)
				sending := make(chan error, 1)
				go func() {
					for !stopped.Load() {
						select {
						case sent <- time.Now():
						case <-ctx.Done():
							sending <- ctx.Err()
							return
						}
						if err := a.append(o.Batch); err != nil {
							sending <- err
							return
						}
					}
					sending <- a.finish()
				}()
				for first := true; ; first = false {
					err := a.acked()
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						return fmt.Errorf("stream %d: %w", i, err)
					}
					records.Add(int64(o.Batch))
					if first {
						going <- struct{}{}
					}
					start := <-sent
					if measuring.Load() {
						latencies[i].Record(time.Since(start))
					}
				}
				return <-sending
			}()
		}()
	}
	ended := 0
	wait := func(d time.Duration) error {
		timer := time.After(d)
		for {
			select {
			case <-timer:
				return nil
			case err := <-done:
				ended++
				if err != nil {
					return err
				}
			}
		}
	}
	for range o.Streams {
		select {
		case <-going:
		case err := <-done:
			return meter.Result{}, fmt.Errorf("a stream ended before it began: %w", err)
		}
	}
	if err := wait(o.Warmup); err != nil {
		return meter.Result{}, err
	}
	before, err := meter.TakeSnapshot(o.PID, records.Load())
	if err != nil {
		return meter.Result{}, err
	}
	measuring.Store(true)
	if err := wait(o.Window); err != nil {
		return meter.Result{}, err
	}
	measuring.Store(false)
	after, err := meter.TakeSnapshot(o.PID, records.Load())
	if err != nil {
		return meter.Result{}, err
	}
	stopped.Store(true)
	for ; ended < o.Streams; ended++ {
		if err := <-done; err != nil {
			return meter.Result{}, err
		}
	}
	var latency meter.Histogram
	for i := range latencies {
		latency.Add(&latencies[i])
	}
	result := meter.Between(before, after, o.Size, &latency)
	result.Drained = true
	return result, nil
}
