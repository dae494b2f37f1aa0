package main

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"sluice/bench/meter"
)

// A tally is what one stream counts. Nobody else writes to it, and it fills
// cache lines of its own.
type tally struct {
	messages atomic.Int64
	latency  meter.Histogram
	_        [64]byte
}

// A load is what all streams share.
type load struct {
	options Options
	conns   []*grpc.ClientConn
	// transports are for the shapes that do without grpc-go.
	transports []http.RoundTripper
	worker     worker
	tallies    []tally
	measuring  atomic.Bool
	stopped    atomic.Bool
	// stopping is closed when it stops.
	stopping chan struct{}
	// message is one encoded request, with `data` in field 1, as every message of the service has it.
	message []byte
}

func newLoad(o Options, conns []*grpc.ClientConn, transports []http.RoundTripper, w worker) *load {
	data := make([]byte, o.Size)
	for i := range data {
		data[i] = byte(i * 31)
	}
	message := protowire.AppendTag(nil, 1, protowire.BytesType)
	message = protowire.AppendBytes(message, data)
	return &load{
		options:    o,
		conns:      conns,
		transports: transports,
		worker:     w,
		tallies:    make([]tally, o.Streams),
		stopping:   make(chan struct{}),
		message:    message,
	}
}

func (l *load) snapshot() (meter.Snapshot, error) {
	var messages int64
	for i := range l.tallies {
		messages += l.tallies[i].messages.Load()
	}
	return meter.TakeSnapshot(l.options.PID, messages)
}

func (l *load) latency() *meter.Histogram {
	var all meter.Histogram
	for i := range l.tallies {
		all.Add(&l.tallies[i].latency)
	}
	return &all
}

func (l *load) outgoing(ctx context.Context) context.Context {
	if l.options.Token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "acme-token", l.options.Token)
}

func dial(ctx context.Context, o Options) ([]*grpc.ClientConn, error) {
	conns := make([]*grpc.ClientConn, o.Connections)
	for i := range conns {
		conn, err := grpc.NewClient(
			"passthrough:///"+o.Target,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithInitialWindowSize(int32(o.HTTP2Window)),
			grpc.WithInitialConnWindowSize(int32(o.HTTP2Window)),
			grpc.WithReadBufferSize(256<<10),
			grpc.WithWriteBufferSize(256<<10),
			grpc.WithDefaultCallOptions(
				grpc.ForceCodecV2(codec{}),
				grpc.MaxCallRecvMsgSize(64<<20),
				grpc.MaxCallSendMsgSize(64<<20),
			),
		)
		if err != nil {
			return nil, fmt.Errorf("dial: %w", err)
		}
		conns[i] = conn
		conn.Connect()
	}
	for _, conn := range conns {
		for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
			if !conn.WaitForStateChange(ctx, state) {
				return nil, fmt.Errorf("no connection to %s: %w", o.Target, context.Cause(ctx))
			}
		}
	}
	return conns, nil
}
