// Command load calls one server of the benchmarks for a while, and prints as
// one line of JSON what it saw: messages, bytes, latencies, and what the
// server's process spent meanwhile.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

// Options say what to do.
type Options struct {
	Target      string
	PID         int
	Shape       string
	Size        int
	Streams     int
	Connections int
	Batch       int
	Warmup      time.Duration
	Window      time.Duration
	Drain       time.Duration
	HTTP2Window int
	Token       string
}

// Result is what is printed. Times are seconds, sizes bytes.
type Result struct {
	Messages  int64   `json:"messages"`
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"seconds"`
	ServerCPU float64 `json:"serverCpuSeconds"`
	ClientCPU float64 `json:"clientCpuSeconds"`
	// PeakMemory is the most that the server's process had resident.
	PeakMemory int64 `json:"peakMemoryBytes"`
	// Latencies are of shapes that wait for each answer.
	P50 float64 `json:"p50Seconds,omitempty"`
	P99 float64 `json:"p99Seconds,omitempty"`
	// Drained says that every message was seen to arrive before the end.
	Drained bool `json:"drained"`
}

func main() {
	var o Options
	flag.StringVar(&o.Target, "target", "", "host:port of the server")
	flag.IntVar(&o.PID, "pid", 0, "process of the server")
	flag.StringVar(&o.Shape, "shape", "download", "upload, upload-joined, download, bidi, bidi-joined, pingpong or unary")
	flag.IntVar(&o.Size, "size", 100, "bytes of data in a message")
	flag.IntVar(&o.Streams, "streams", 1, "calls at once")
	flag.IntVar(&o.Connections, "connections", 1, "connections to spread them over")
	flag.IntVar(&o.Batch, "batch", 0, "messages of a stream, again and again; 0 for streams without an end")
	flag.DurationVar(&o.Warmup, "warmup", time.Second, "how long to run before the measurement")
	flag.DurationVar(&o.Window, "duration", 2*time.Second, "how long to measure")
	flag.DurationVar(&o.Drain, "drain", 5*time.Second, "how long to wait, after it, for what is in flight")
	flag.IntVar(&o.HTTP2Window, "http2-window", 16<<20, "HTTP/2 window of a stream and of a connection, in bytes")
	flag.StringVar(&o.Token, "token", "", "token to send")
	flag.Parse()
	result, err := run(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		os.Exit(1)
	}
}

func run(o Options) (Result, error) {
	worker, ok := shapes[o.Shape]
	if !ok {
		return Result{}, fmt.Errorf("unknown shape %q", o.Shape)
	}
	// A server that hangs must not hang the benchmark.
	deadline := o.Warmup + o.Window + o.Drain + time.Minute
	ctx, cancel := context.WithTimeoutCause(context.Background(), deadline, errors.New("the server took too long"))
	defer cancel()
	conns, err := dial(ctx, o)
	if err != nil {
		return Result{}, err
	}
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	if err := resetPeakMemory(o.PID); err != nil {
		return Result{}, err
	}
	l := newLoad(o, conns, worker)
	measure := l.timed
	if o.Batch > 0 {
		measure = l.batches
	}
	before, after, drained, err := measure(ctx, cancel)
	if err != nil {
		return Result{}, err
	}
	peak, err := peakMemory(o.PID)
	if err != nil {
		return Result{}, err
	}
	messages := after.messages - before.messages
	if messages == 0 {
		return Result{}, errors.New("no message passed within the measurement")
	}
	latency := l.latency()
	return Result{
		Messages:   messages,
		Bytes:      messages * int64(o.Size),
		Seconds:    after.at.Sub(before.at).Seconds(),
		ServerCPU:  after.server - before.server,
		ClientCPU:  after.client - before.client,
		PeakMemory: peak,
		P50:        latency.quantile(0.50),
		P99:        latency.quantile(0.99),
		Drained:    drained,
	}, nil
}
