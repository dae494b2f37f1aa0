package main

import (
	"context"
	"fmt"
	"io"
	"time"

	benchv1 "sluice/bench/gen/bench/v1"
)

// maxUnanswered bounds what one stream waits for.
const maxUnanswered = 10_000

// A question is a message that waits for its answer.
type question struct {
	// due is when it was to be sent. What a slow sender makes it wait counts, as it does for whoever asks.
	due      time.Time
	measured bool
}

// paced sends messages at a fixed rate, spread evenly over the streams, whether
// the ones before have been answered or not, and measures how long each answer
// takes.
func paced(ctx context.Context, l *load, i int, messages int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, sending := io.Pipe()
	questions := make(chan question, maxUnanswered)
	sent := make(chan error, 1)
	go func() {
		err := l.ask(ctx, i, messages, sending, questions)
		close(questions)
		_ = sending.CloseWithError(err)
		sent <- err
	}()
	response, err := l.post(ctx, i, benchv1.BenchService_Echo_FullMethodName, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	t := &l.tallies[i]
	answer := make([]byte, prefixBytes+len(l.message))
	for q := range questions {
		if _, err := io.ReadFull(response.Body, answer); err != nil {
			return fmt.Errorf("stream %d, an answer: %w", i, err)
		}
		t.messages.Add(1)
		if q.measured {
			t.latency.Record(time.Since(q.due))
		}
	}
	if err := <-sent; err != nil {
		return err
	}
	if n, err := io.ReadFull(response.Body, answer); err != io.EOF {
		return fmt.Errorf("expected the end of the stream, got %d bytes: %v", n, err)
	}
	return succeeded(response)
}

// ask is what sends.
func (l *load) ask(ctx context.Context, i int, messages int64, to io.Writer, questions chan<- question) error {
	interval := time.Duration(float64(l.options.Streams) / l.options.Rate * float64(time.Second))
	message := envelope(l.message)
	due := time.Now().Add(interval * time.Duration(i+1) / time.Duration(l.options.Streams))
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	for ; messages > 0; messages-- {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.stopping:
			return nil
		}
		select {
		case questions <- question{due: due, measured: l.measuring.Load()}:
		default:
			return fmt.Errorf("stream %d: %d messages are without an answer", i, maxUnanswered)
		}
		if _, err := to.Write(message); err != nil {
			return err
		}
		due = due.Add(interval)
		timer.Reset(time.Until(due))
	}
	return nil
}
