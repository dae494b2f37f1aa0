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
	"net/http"
	"os"
	"time"

	"google.golang.org/grpc"
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
	// CA is a PEM file; with it, calls go over TLS.
	CA    string
	HTTP3 bool
	// Rate is of all streams together, a second.
	Rate float64
}

func (o Options) scheme() string {
	if o.CA == "" {
		return "http"
	}
	return "https"
}

func main() {
	var o Options
	flag.StringVar(&o.Target, "target", "", "host:port of the server")
	flag.IntVar(&o.PID, "pid", 0, "process of the server")
	flag.StringVar(&o.Shape, "shape", "download", "upload, download, bidi, pingpong or unary; or upload-joined, download-joined, bidi-joined or paced, which can have TLS")
	flag.IntVar(&o.Size, "size", 100, "bytes of data in a message")
	flag.IntVar(&o.Streams, "streams", 1, "calls at once")
	flag.IntVar(&o.Connections, "connections", 1, "connections to spread them over")
	flag.IntVar(&o.Batch, "batch", 0, "messages of a stream, again and again; 0 for streams without an end")
	flag.DurationVar(&o.Warmup, "warmup", time.Second, "how long to run before the measurement")
	flag.DurationVar(&o.Window, "duration", 2*time.Second, "how long to measure")
	flag.DurationVar(&o.Drain, "drain", 5*time.Second, "how long to wait, after it, for what is in flight")
	flag.IntVar(&o.HTTP2Window, "http2-window", 16<<20, "window of a stream and of a connection, in bytes")
	flag.StringVar(&o.Token, "token", "", "token to send")
	flag.StringVar(&o.CA, "ca", "", "PEM file with the CA to trust; turns TLS on")
	flag.BoolVar(&o.HTTP3, "http3", false, "HTTP/3 instead of HTTP/2; needs -ca")
	flag.Float64Var(&o.Rate, "rate", 100, "of the shape paced: messages a second, of all streams together")
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
	worker, grpcGo := shapes[o.Shape]
	if !grpcGo {
		worker = httpShapes[o.Shape]
	}
	if worker == nil {
		return meter.Result{}, fmt.Errorf("unknown shape %q", o.Shape)
	}
	if grpcGo && o.CA != "" {
		return meter.Result{}, fmt.Errorf("%s has no TLS", o.Shape)
	}
	// A server that hangs must not hang the benchmark.
	deadline := o.Warmup + o.Window + o.Drain + time.Minute
	ctx, cancel := context.WithTimeoutCause(context.Background(), deadline, errors.New("the server took too long"))
	defer cancel()
	var conns []*grpc.ClientConn
	var transports []http.RoundTripper
	var err error
	if grpcGo {
		conns, err = dial(ctx, o)
	} else {
		transports, err = newTransports(o)
	}
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
	l := newLoad(o, conns, transports, worker)
	if !grpcGo {
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
