package meter

import (
	"os"
	"time"
)

// A Snapshot is where everything stands at one moment.
type Snapshot struct {
	At             time.Time
	Messages       int64
	Server, Client float64
}

// TakeSnapshot looks at the server's process and at this one.
func TakeSnapshot(server int, messages int64) (Snapshot, error) {
	s := Snapshot{At: time.Now(), Messages: messages}
	var err error
	if s.Server, err = CPUSeconds(server); err != nil {
		return s, err
	}
	s.Client, err = CPUSeconds(os.Getpid())
	return s, err
}

// Between is the Result of what happened between two snapshots, with messages of this size.
func Between(before, after Snapshot, size int, latency *Histogram) Result {
	messages := after.Messages - before.Messages
	return Result{
		Messages:  messages,
		Bytes:     messages * int64(size),
		Seconds:   after.At.Sub(before.At).Seconds(),
		ServerCPU: after.Server - before.Server,
		ClientCPU: after.Client - before.Client,
		P50:       latency.Quantile(0.50),
		P99:       latency.Quantile(0.99),
	}
}
