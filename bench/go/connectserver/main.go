// Command connectserver serves BenchService with connect-go on net/http, in
// their defaults.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"connectrpc.com/connect"
	benchv1 "sluice/bench/gen/bench/v1"
	"sluice/bench/gen/bench/v1/benchv1connect"
)

type service struct{}

func (service) Unary(_ context.Context, request *connect.Request[benchv1.UnaryRequest]) (*connect.Response[benchv1.UnaryResponse], error) {
	return connect.NewResponse(&benchv1.UnaryResponse{Data: request.Msg.Data}), nil
}

func (service) Upload(_ context.Context, stream *connect.ClientStream[benchv1.UploadRequest]) (*connect.Response[benchv1.UploadResponse], error) {
	var response benchv1.UploadResponse
	for stream.Receive() {
		response.Messages++
		response.Bytes += uint64(len(stream.Msg().Data))
	}
	return connect.NewResponse(&response), stream.Err()
}

func (service) Download(_ context.Context, request *connect.Request[benchv1.DownloadRequest], stream *connect.ServerStream[benchv1.DownloadResponse]) error {
	data := make([]byte, request.Msg.Size)
	for i := uint64(0); request.Msg.Messages == 0 || i < request.Msg.Messages; i++ {
		if err := stream.Send(&benchv1.DownloadResponse{Data: data}); err != nil {
			return err
		}
	}
	return nil
}

func (service) Echo(_ context.Context, stream *connect.BidiStream[benchv1.EchoRequest, benchv1.EchoResponse]) error {
	for {
		request, err := stream.Receive()
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
	mux := http.NewServeMux()
	mux.Handle(benchv1connect.NewBenchServiceHandler(service{}))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: mux, Protocols: &protocols}
	fmt.Printf("listening on %s\n", listener.Addr())
	log.Fatal(server.Serve(listener))
}
