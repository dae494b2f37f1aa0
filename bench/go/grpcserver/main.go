// Command grpcserver serves BenchService with grpc-go, in its defaults.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"

	"google.golang.org/grpc"
	benchv1 "sluice/bench/gen/bench/v1"
)

type service struct {
	benchv1.UnimplementedBenchServiceServer
}

func (service) Unary(_ context.Context, request *benchv1.UnaryRequest) (*benchv1.UnaryResponse, error) {
	return &benchv1.UnaryResponse{Data: request.Data}, nil
}

func (service) Upload(stream grpc.ClientStreamingServer[benchv1.UploadRequest, benchv1.UploadResponse]) error {
	var response benchv1.UploadResponse
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&response)
		}
		if err != nil {
			return err
		}
		response.Messages++
		response.Bytes += uint64(len(request.Data))
	}
}

func (service) Download(request *benchv1.DownloadRequest, stream grpc.ServerStreamingServer[benchv1.DownloadResponse]) error {
	data := make([]byte, request.Size)
	for i := uint64(0); request.Messages == 0 || i < request.Messages; i++ {
		if err := stream.Send(&benchv1.DownloadResponse{Data: data}); err != nil {
			return err
		}
	}
	return nil
}

func (service) Echo(stream grpc.BidiStreamingServer[benchv1.EchoRequest, benchv1.EchoResponse]) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&benchv1.EchoResponse{Data: request.Data}); err != nil {
			return err
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	benchv1.RegisterBenchServiceServer(server, service{})
	fmt.Printf("listening on %s\n", listener.Addr())
	log.Fatal(server.Serve(listener))
}
