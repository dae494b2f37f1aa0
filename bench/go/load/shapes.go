package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	benchv1 "sluice/bench/gen/bench/v1"
)

// A worker runs one stream of so many messages, or until the load stops.
type worker func(ctx context.Context, l *load, stream int, messages int64) error

var shapes = map[string]worker{
	"upload":   withGRPC(upload),
	"download": withGRPC(download),
	"bidi":     withGRPC(bidi),
	"pingpong": withGRPC(pingPong),
	"unary":    withGRPC(unary),
}

// httpShapes do without grpc-go.
var httpShapes = map[string]worker{
	"upload-joined":     uploadJoined,
	downloadJoinedShape: downloadJoined,
	"bidi-joined":       bidiJoined,
	pacedShape:          paced,
}

const (
	downloadJoinedShape = "download-joined"
	pacedShape          = "paced"
)

func withGRPC(w func(context.Context, *load, *grpc.ClientConn, *tally, int64) error) worker {
	return func(ctx context.Context, l *load, stream int, messages int64) error {
		return w(ctx, l, l.conns[stream%len(l.conns)], &l.tallies[stream], messages)
	}
}

func upload(ctx context.Context, l *load, conn *grpc.ClientConn, t *tally, messages int64) error {
	desc := &grpc.StreamDesc{ClientStreams: true}
	stream, err := conn.NewStream(l.outgoing(ctx), desc, benchv1.BenchService_Upload_FullMethodName)
	if err != nil {
		return err
	}
	var sent int64
	for ; sent < messages && !l.stopped.Load(); sent++ {
		if err := stream.SendMsg(encoded(l.message)); err != nil {
			return failure(stream, err)
		}
		t.messages.Add(1)
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	var response benchv1.UploadResponse
	if err := stream.RecvMsg(&response); err != nil {
		return err
	}
	if response.Messages != uint64(sent) || response.Bytes != uint64(sent)*uint64(l.options.Size) {
		return fmt.Errorf("sent %d messages, the server got %d with %d bytes", sent, response.Messages, response.Bytes)
	}
	return nil
}

func download(ctx context.Context, l *load, conn *grpc.ClientConn, t *tally, messages int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	desc := &grpc.StreamDesc{ServerStreams: true}
	stream, err := conn.NewStream(l.outgoing(ctx), desc, benchv1.BenchService_Download_FullMethodName)
	if err != nil {
		return err
	}
	request := &benchv1.DownloadRequest{Messages: uint64(messages), Size: uint32(l.options.Size)}
	if err := stream.SendMsg(request); err != nil {
		return failure(stream, err)
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for received := int64(0); received < messages; received++ {
		if l.stopped.Load() {
			return nil
		}
		if err := l.receive(stream, t); err != nil {
			return err
		}
	}
	return l.expectEnd(stream)
}

func bidi(ctx context.Context, l *load, conn *grpc.ClientConn, t *tally, messages int64) error {
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	stream, err := conn.NewStream(l.outgoing(ctx), desc, benchv1.BenchService_Echo_FullMethodName)
	if err != nil {
		return err
	}
	sent := make(chan int64, 1)
	go func() {
		var count int64
		for count < messages && !l.stopped.Load() && stream.SendMsg(encoded(l.message)) == nil {
			count++
		}
		_ = stream.CloseSend()
		sent <- count
	}()
	received := int64(0)
	for ; ; received++ {
		err := l.receive(stream, t)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if count := <-sent; count != received {
		return fmt.Errorf("sent %d messages, got %d back", count, received)
	}
	return nil
}

func pingPong(ctx context.Context, l *load, conn *grpc.ClientConn, t *tally, messages int64) error {
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	stream, err := conn.NewStream(l.outgoing(ctx), desc, benchv1.BenchService_Echo_FullMethodName)
	if err != nil {
		return err
	}
	for sent := int64(0); sent < messages && !l.stopped.Load(); sent++ {
		start := time.Now()
		if err := stream.SendMsg(encoded(l.message)); err != nil {
			return failure(stream, err)
		}
		if err := l.receive(stream, t); err != nil {
			return err
		}
		if l.measuring.Load() {
			t.latency.Record(time.Since(start))
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return l.expectEnd(stream)
}

func unary(ctx context.Context, l *load, conn *grpc.ClientConn, t *tally, messages int64) error {
	for sent := int64(0); sent < messages && !l.stopped.Load(); sent++ {
		start := time.Now()
		var response received
		err := conn.Invoke(l.outgoing(ctx), benchv1.BenchService_Unary_FullMethodName, encoded(l.message), &response)
		if err != nil {
			return err
		}
		if err := l.check(response); err != nil {
			return err
		}
		t.messages.Add(1)
		if l.measuring.Load() {
			t.latency.Record(time.Since(start))
		}
	}
	return nil
}

// receive takes one message of the expected length.
func (l *load) receive(stream grpc.ClientStream, t *tally) error {
	var response received
	if err := stream.RecvMsg(&response); err != nil {
		return err
	}
	if err := l.check(response); err != nil {
		return err
	}
	t.messages.Add(1)
	return nil
}

func (l *load) expectEnd(stream grpc.ClientStream) error {
	var response received
	if err := stream.RecvMsg(&response); !errors.Is(err, io.EOF) {
		return fmt.Errorf("expected the end of the stream, got %v", err)
	}
	return nil
}

func (l *load) check(response received) error {
	if int(response) != len(l.message) {
		return fmt.Errorf("a message of %d bytes, not %d", int(response), len(l.message))
	}
	return nil
}

// failure is why a send failed: SendMsg says only that the stream has ended.
func failure(stream grpc.ClientStream, err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	var response received
	if reason := stream.RecvMsg(&response); reason != nil {
		return reason
	}
	return errors.New("the server ended the call before the client did")
}
