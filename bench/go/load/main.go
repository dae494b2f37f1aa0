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
	"strings"
	"time"

	"sluice/bench/meter"
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

func run(o Options) (meter.Result, error) {
	worker, ok := shapes[o.Shape]
	if !ok {
		return meter.Result{}, fmt.Errorf("unknown shape %q", o.Shape)
	}
	// A server that hangs must not hang the benchmark.
	deadline := o.Warmup + o.Window + o.Drain + time.Minute
	ctx, cancel := context.WithTimeoutCause(context.Background(), deadline, errors.New("the server took too long"))
	defer cancel()
	conns, err := dial(ctx, o)
	if err != nil {
		return meter.Result{}, err
	}
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	if err := meter.ResetPeakMemory(o.PID); err != nil {
		return meter.Result{}, err
	}
	l := newLoad(o, conns, worker)
	if strings.HasSuffix(o.Shape, "-joined") {
		if err := l.prime(ctx); err != nil {
			return meter.Result{}, fmt.Errorf("the first call: %w", err)
		}
	}
	measure := l.timed
	if o.Batch > 0 {
		measure = l.batches
	}
	before, after, drained, err := measure(ctx, cancel)
	if err != nil {
		return meter.Result{}, err
	}
	result := meter.Between(before, after, o.Size, l.latency())
	if result.Messages == 0 {
		return result, errors.New("no message passed within the measurement")
	}
	result.Drained = drained
	result.PeakMemory, err = meter.PeakMemory(o.PID)
	return result, err
}
