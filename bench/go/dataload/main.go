// Command dataload appends records to a store, or replays them, and prints as
// one line of JSON how fast that was.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"sluice/bench/meter"
)

// Options say what to do.
type Options struct {
	Backend string
	Target  string
	PID     int
	Dir     string
	Token   string
	Shape   string
	Size    int
	Streams int
	// Batch is how many records are appended together, where the store knows batches.
	Batch int
	// Pending is how many records of all streams wait for their acknowledgement.
	Pending int
	// Stored is how many records of all streams are there to be replayed.
	Stored  int
	Warmup  time.Duration
	Window  time.Duration
	Timeout time.Duration
}

// A backend is a store under load.
type backend interface {
	// appender opens a stream for appending, and makes it if need be.
	appender(ctx context.Context, stream int) (appender, error)
	// replay reads a stream from its first record to its tail.
	replay(ctx context.Context, stream int, records int64, seen func(records int64)) error
	close()
}

// An appender appends to one stream. Batches are acknowledged in their order.
type appender interface {
	append(records int) error
	// acked waits for the next acknowledgement. After finish it returns io.EOF when there are no more.
	acked() error
	finish() error
}

func main() {
	var o Options
	flag.StringVar(&o.Backend, "backend", "", "sluice, nats or fdatasync")
	flag.StringVar(&o.Target, "target", "", "host:port of the server")
	flag.IntVar(&o.PID, "pid", os.Getpid(), "process of the server")
	flag.StringVar(&o.Dir, "dir", "", "where fdatasync writes")
	flag.StringVar(&o.Token, "token", "", "token to send")
	flag.StringVar(&o.Shape, "shape", "append", "append or replay")
	flag.IntVar(&o.Size, "size", 100, "bytes of data in a record")
	flag.IntVar(&o.Streams, "streams", 1, "streams at once")
	flag.IntVar(&o.Batch, "batch", 1, "records appended together")
	flag.IntVar(&o.Pending, "pending", 10_000, "records of all streams without an acknowledgement")
	flag.IntVar(&o.Stored, "stored", 100_000, "records of all streams to replay")
	flag.DurationVar(&o.Warmup, "warmup", time.Second, "how long to run before the measurement")
	flag.DurationVar(&o.Window, "duration", 2*time.Second, "how long to measure")
	flag.DurationVar(&o.Timeout, "timeout", 2*time.Minute, "longest time for everything")
	flag.Parse()
	result, err := run(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "dataload:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		os.Exit(1)
	}
}

func run(o Options) (meter.Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
	defer cancel()
	b, err := open(ctx, o)
	if err != nil {
		return meter.Result{}, err
	}
	defer b.close()
	if err := meter.ResetPeakMemory(o.PID); err != nil {
		return meter.Result{}, err
	}
	var result meter.Result
	switch o.Shape {
	case "append":
		result, err = appendLoad(ctx, o, b)
	case "replay":
		result, err = replayLoad(ctx, o, b)
	default:
		err = fmt.Errorf("unknown shape %q", o.Shape)
	}
	if err != nil {
		return result, err
	}
	if result.Messages == 0 {
		return result, fmt.Errorf("no record passed within the measurement")
	}
	result.PeakMemory, err = meter.PeakMemory(o.PID)
	return result, err
}

func open(ctx context.Context, o Options) (backend, error) {
	switch o.Backend {
	case "sluice":
		return openSluice(o)
	case "nats":
		return openNATS(ctx, o)
	case "fdatasync":
		return openFile(o)
	default:
		return nil, fmt.Errorf("unknown backend %q", o.Backend)
	}
}

// record is one record's data.
func (o Options) record() []byte {
	data := make([]byte, o.Size)
	for i := range data {
		data[i] = byte(i * 31)
	}
	return data
}
