package main

import (
	"context"
	"io"
	"testing"
	"time"
)

func TestAskIsDueEvenlyHoweverSlowTheSenderIs(t *testing.T) {
	l := newLoad(Options{Size: 100, Streams: 2, Rate: 1000}, nil, nil, nil)
	questions := make(chan question, 100)
	start := time.Now()
	if err := l.ask(context.Background(), 0, 20, slow{}, questions); err != nil {
		t.Fatal(err)
	}
	close(questions)
	n := 0
	var first time.Time
	for q := range questions {
		if n == 0 {
			first = q.due
		}
		// Two streams share a thousand a second, so that each has one in 2 ms.
		if got, want := q.due.Sub(first), time.Duration(n)*2*time.Millisecond; got != want {
			t.Errorf("message %d is due after %v, not %v", n, got, want)
		}
		n++
	}
	if n != 20 {
		t.Errorf("%d messages, not 20", n)
	}
	if took := time.Since(start); took < 20*5*time.Millisecond {
		t.Errorf("the sender was not slow: %v", took)
	}
}

// slow takes longer for each message than there is between two.
type slow struct{}

func (slow) Write(p []byte) (int, error) {
	time.Sleep(5 * time.Millisecond)
	return len(p), nil
}

var _ io.Writer = slow{}
