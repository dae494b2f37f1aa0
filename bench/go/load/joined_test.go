package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

func TestJoinerSendsWholeMessages(t *testing.T) {
	for _, size := range []int{0, 1, 100, 65_536, 100_000} {
		for _, messages := range []int64{1, 7, 1500} {
			if int64(size)*messages > 10_000_000 {
				continue
			}
			l := newLoad(Options{Size: size, Streams: 1}, nil, nil, nil)
			var counted int64
			j := newJoiner(l, messages, func(n int64) { counted += n })
			want := bytes.Repeat(j.batch[:j.length], int(messages))
			var got []byte
			for {
				chunk := make([]byte, 1+rand.IntN(40_000))
				n, err := j.Read(chunk)
				got = append(got, chunk[:n]...)
				if err == io.EOF {
					break
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d messages of %d bytes: %d bytes, not %d", messages, size, len(got), len(want))
			}
			if j.sent.Load() != messages || counted != messages {
				t.Errorf("%d messages of %d bytes: %d sent, %d counted", messages, size, j.sent.Load(), counted)
			}
		}
	}
}

func TestJoinerStopsAfterAWholeMessage(t *testing.T) {
	l := newLoad(Options{Size: 100, Streams: 1}, nil, nil, nil)
	j := newJoiner(l, 1<<62, func(int64) {})
	first := make([]byte, 1000)
	if n, err := j.Read(first); n != 1000 || err != nil {
		t.Fatal(n, err)
	}
	l.stopped.Store(true)
	rest, err := io.ReadAll(j)
	if err != nil {
		t.Fatal(err)
	}
	if total := 1000 + len(rest); total != int(j.sent.Load())*j.length {
		t.Errorf("%d bytes are not %d whole messages", total, j.sent.Load())
	}
}
