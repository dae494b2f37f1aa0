package main

import (
	"context"
	"math"
	"time"

	"sluice/bench/meter"
)

// timed measures streams without an end, in the middle of their flow. For few
// streams: with many, a server may fill the buffers of all before it looks at
// the first again, and a window would see more or less of that at random.
func (l *load) timed(ctx context.Context, cancel context.CancelFunc) (before, after meter.Snapshot, drained bool, err error) {
	done := make(chan error, l.options.Streams)
	l.start(ctx, math.MaxInt64, done)
	ended := 0
	wait := func(d time.Duration) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		for {
			select {
			case <-timer.C:
				return nil
			case err := <-done:
				ended++
				if err != nil {
					return err
				}
			}
		}
	}
	if err = wait(l.options.Warmup); err != nil {
		return
	}
	if before, err = l.snapshot(); err != nil {
		return
	}
	l.measuring.Store(true)
	if err = wait(l.options.Window); err != nil {
		return
	}
	l.measuring.Store(false)
	if after, err = l.snapshot(); err != nil {
		return
	}

	// What is in flight may arrive, so that it can be counted on both sides.
	l.stopped.Store(true)
	close(l.stopping)
	drained = true
	timer := time.NewTimer(l.options.Drain)
	defer timer.Stop()
	for ended < l.options.Streams {
		select {
		case err = <-done:
			ended++
			if err != nil && drained {
				return
			}
		case <-timer.C:
			drained = false
			cancel()
		}
	}
	return before, after, drained, nil
}

// batches measures streams of a fixed length, from the start of the first to
// the end of the last, as often as there is time.
func (l *load) batches(ctx context.Context, _ context.CancelFunc) (before, after meter.Snapshot, drained bool, err error) {
	repeat := func(messages int64, atLeast time.Duration) error {
		done := make(chan error, l.options.Streams)
		for start := time.Now(); time.Since(start) < atLeast; {
			l.start(ctx, messages, done)
			for range l.options.Streams {
				if err := <-done; err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err = repeat(max(1, int64(l.options.Batch/10)), l.options.Warmup); err != nil {
		return
	}
	if before, err = l.snapshot(); err != nil {
		return
	}
	l.measuring.Store(true)
	if err = repeat(int64(l.options.Batch), l.options.Window); err != nil {
		return
	}
	after, err = l.snapshot()
	return before, after, true, err
}

// start starts every stream; each says on done when it has ended.
func (l *load) start(ctx context.Context, messages int64, done chan<- error) {
	for i := range l.options.Streams {
		go func() { done <- l.worker(ctx, l, i, messages) }()
	}
}
