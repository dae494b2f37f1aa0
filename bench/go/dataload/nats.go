package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var processID = os.Getpid()

// natsStore keeps all streams as subjects of one JetStream stream, on files.
type natsStore struct {
	options Options
	conn    *nats.Conn
	js      jetstream.JetStream
	stream  jetstream.Stream
}

func openNATS(ctx context.Context, o Options) (backend, error) {
	conn, err := nats.Connect("nats://" + o.Target)
	if err != nil {
		return nil, err
	}
	// Appends are bounded by who appends.
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(1<<20))
	if err != nil {
		return nil, err
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name:     fmt.Sprintf("bench%d", processID),
		Subjects: []string{fmt.Sprintf("bench.%d.*", processID)},
		Storage:  jetstream.FileStorage,
	})
	if err != nil {
		return nil, err
	}
	return &natsStore{options: o, conn: conn, js: js, stream: stream}, nil
}

func (n *natsStore) subject(stream int) string {
	return fmt.Sprintf("bench.%d.%d", processID, stream)
}

func (n *natsStore) close() {
	_ = n.js.DeleteStream(context.Background(), fmt.Sprintf("bench%d", processID))
	n.conn.Close()
}

type publisher struct {
	js      jetstream.JetStream
	subject string
	record  []byte
	// batches are the acknowledgements that are waited for, of each batch.
	batches chan []jetstream.PubAckFuture
}

func (n *natsStore) appender(_ context.Context, stream int) (appender, error) {
	return &publisher{
		js:      n.js,
		subject: n.subject(stream),
		record:  n.options.record(),
		batches: make(chan []jetstream.PubAckFuture, n.options.Pending),
	}, nil
}

// append publishes each record for itself, as this version of NATS knows no batches.
func (p *publisher) append(records int) error {
	futures := make([]jetstream.PubAckFuture, records)
	for i := range futures {
		future, err := p.js.PublishAsync(p.subject, p.record)
		if err != nil {
			return err
		}
		futures[i] = future
	}
	p.batches <- futures
	return nil
}

func (p *publisher) acked() error {
	futures, open := <-p.batches
	if !open {
		return io.EOF
	}
	for _, future := range futures {
		select {
		case <-future.Ok():
		case err := <-future.Err():
			return err
		}
	}
	return nil
}

func (p *publisher) finish() error {
	close(p.batches)
	return nil
}

func (n *natsStore) replay(ctx context.Context, stream int, records int64, seen func(int64)) error {
	consumer, err := n.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{n.subject(stream)},
		DeliverPolicy:  jetstream.DeliverAllPolicy,
	})
	if err != nil {
		return err
	}
	done := make(chan struct{})
	var count int64
	consuming, err := consumer.Consume(func(message jetstream.Msg) {
		if count == records {
			return
		}
		count++
		seen(1)
		if count == records {
			close(done)
		}
	}, jetstream.PullMaxMessages(5000))
	if err != nil {
		return err
	}
	defer consuming.Stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
