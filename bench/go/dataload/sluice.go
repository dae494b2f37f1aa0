package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	datav1 "sluice/bench/gen/data/v1"
)

// streamsPerConnection spreads many streams over some connections.
const streamsPerConnection = 100

type sluice struct {
	options Options
	conns   []*grpc.ClientConn
}

func openSluice(o Options) (backend, error) {
	s := &sluice{options: o}
	for range (o.Streams + streamsPerConnection - 1) / streamsPerConnection {
		conn, err := grpc.NewClient(
			"passthrough:///"+o.Target,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithInitialWindowSize(16<<20),
			grpc.WithInitialConnWindowSize(16<<20),
			grpc.WithReadBufferSize(256<<10),
			grpc.WithWriteBufferSize(256<<10),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.WaitForReady(true)),
		)
		if err != nil {
			return nil, err
		}
		s.conns = append(s.conns, conn)
	}
	return s, nil
}

func (s *sluice) client(stream int) datav1.DataServiceClient {
	return datav1.NewDataServiceClient(s.conns[stream%len(s.conns)])
}

func (s *sluice) outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "acme-token", s.options.Token)
}

// name is of one process's streams: each measurement has its own.
func (s *sluice) name(stream int) string {
	return fmt.Sprintf("bench/%d/%d", processID, stream)
}

func (s *sluice) close() {
	for _, conn := range s.conns {
		_ = conn.Close()
	}
}

type exchange struct {
	call    grpc.BidiStreamingClient[datav1.ExchangeRequest, datav1.ExchangeResponse]
	records []*datav1.Record
}

func (s *sluice) appender(ctx context.Context, stream int) (appender, error) {
	call, err := s.client(stream).Exchange(s.outgoing(ctx))
	if err != nil {
		return nil, err
	}
	err = call.Send(&datav1.ExchangeRequest{Message: &datav1.ExchangeRequest_Open_{
		Open: &datav1.ExchangeRequest_Open{Stream: s.name(stream), CreateIfMissing: true},
	}})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	opened, err := call.Recv()
	if err != nil {
		return nil, err
	}
	if opened.GetOpened() == nil {
		return nil, fmt.Errorf("expected opened, got %v", opened)
	}
	records := make([]*datav1.Record, s.options.Batch)
	for i := range records {
		records[i] = &datav1.Record{Data: s.options.record()}
	}
	return &exchange{call: call, records: records}, nil
}

func (e *exchange) append(records int) error {
	return e.call.Send(&datav1.ExchangeRequest{Message: &datav1.ExchangeRequest_Append{
		Append: &datav1.AppendBatch{Records: e.records[:records]},
	}})
}

func (e *exchange) acked() error {
	response, err := e.call.Recv()
	if err != nil {
		return err
	}
	ack := response.GetAck()
	if ack == nil || ack.Durability != datav1.Durability_DURABILITY_DISK {
		return fmt.Errorf("expected an ack from the disk, got %v", response)
	}
	return nil
}

func (e *exchange) finish() error { return e.call.CloseSend() }

func (s *sluice) replay(ctx context.Context, stream int, _ int64, seen func(int64)) error {
	call, err := s.client(stream).Read(s.outgoing(ctx), &datav1.ReadRequest{Stream: s.name(stream)})
	if err != nil {
		return err
	}
	for {
		response, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		seen(int64(len(response.GetBatch().GetRecords())))
	}
}
