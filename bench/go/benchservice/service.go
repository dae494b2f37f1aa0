// Package benchservice implements BenchService for connect-go.
package benchservice

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"
	benchv1 "sluice/bench/gen/bench/v1"
)

// Service is the same behind each of connect-go's servers.
type Service struct{}

func (Service) Unary(_ context.Context, request *connect.Request[benchv1.UnaryRequest]) (*connect.Response[benchv1.UnaryResponse], error) {
	return connect.NewResponse(&benchv1.UnaryResponse{Data: request.Msg.Data}), nil
}

func (Service) Upload(_ context.Context, stream *connect.ClientStream[benchv1.UploadRequest]) (*connect.Response[benchv1.UploadResponse], error) {
	var response benchv1.UploadResponse
	for stream.Receive() {
		response.Messages++
		response.Bytes += uint64(len(stream.Msg().Data))
	}
	return connect.NewResponse(&response), stream.Err()
}

func (Service) Download(_ context.Context, request *connect.Request[benchv1.DownloadRequest], stream *connect.ServerStream[benchv1.DownloadResponse]) error {
	data := make([]byte, request.Msg.Size)
	for i := uint64(0); request.Msg.Messages == 0 || i < request.Msg.Messages; i++ {
		if err := stream.Send(&benchv1.DownloadResponse{Data: data}); err != nil {
			return err
		}
	}
	return nil
}

func (Service) Echo(_ context.Context, stream *connect.BidiStream[benchv1.EchoRequest, benchv1.EchoResponse]) error {
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
