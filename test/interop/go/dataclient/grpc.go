package dataclient

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	datav1 "sluice/interop/gen/data/v1"
)

type grpcClient struct {
	conn *grpc.ClientConn
	stub datav1.DataServiceClient
}

func newGRPC(address string) (*grpcClient, error) {
	conn, err := grpc.NewClient(
		"passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dial(ctx, "tcp", address)
		}),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
	)
	if err != nil {
		return nil, err
	}
	return &grpcClient{conn, datav1.NewDataServiceClient(conn)}, nil
}

func outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, strings.ToLower(TokenHeader), Token)
}

// answer translates the error of a unary call.
func answer[Response any](response *Response, err error) (*Response, error) {
	return response, ofGRPC(err)
}

func (c *grpcClient) CreateStream(ctx context.Context, request *datav1.CreateStreamRequest) (*datav1.CreateStreamResponse, error) {
	return answer(c.stub.CreateStream(outgoing(ctx), request))
}

func (c *grpcClient) GetStream(ctx context.Context, request *datav1.GetStreamRequest) (*datav1.GetStreamResponse, error) {
	return answer(c.stub.GetStream(outgoing(ctx), request))
}

func (c *grpcClient) DeleteStream(ctx context.Context, request *datav1.DeleteStreamRequest) (*datav1.DeleteStreamResponse, error) {
	return answer(c.stub.DeleteStream(outgoing(ctx), request))
}

func (c *grpcClient) SealStream(ctx context.Context, request *datav1.SealStreamRequest) (*datav1.SealStreamResponse, error) {
	return answer(c.stub.SealStream(outgoing(ctx), request))
}

func (c *grpcClient) ClaimProducer(ctx context.Context, request *datav1.ClaimProducerRequest) (*datav1.ClaimProducerResponse, error) {
	return answer(c.stub.ClaimProducer(outgoing(ctx), request))
}

func (c *grpcClient) Append(ctx context.Context, request *datav1.AppendRequest) (*datav1.AppendResponse, error) {
	return answer(c.stub.Append(outgoing(ctx), request))
}

func (c *grpcClient) Upload(ctx context.Context, requests ...*datav1.UploadRequest) (*datav1.UploadResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.stub.Upload(outgoing(ctx))
	if err != nil {
		return nil, ofGRPC(err)
	}
	for _, request := range requests {
		// io.EOF: the reason is in the response.
		if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
			return nil, ofGRPC(err)
		}
	}
	return answer(stream.CloseAndRecv())
}

func (c *grpcClient) Read(ctx context.Context, request *datav1.ReadRequest, take func(*datav1.ReadResponse) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.stub.Read(outgoing(ctx), request)
	if err != nil {
		return ofGRPC(err)
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return ofGRPC(err)
		}
		if !take(response) {
			return nil
		}
	}
}

func (c *grpcClient) Exchange(ctx context.Context) (Exchange, error) {
	stream, err := c.stub.Exchange(outgoing(ctx))
	if err != nil {
		return nil, ofGRPC(err)
	}
	return grpcExchange{stream}, nil
}

func (c *grpcClient) Close() error { return c.conn.Close() }

type grpcExchange struct {
	stream grpc.BidiStreamingClient[datav1.ExchangeRequest, datav1.ExchangeResponse]
}

func (e grpcExchange) Send(request *datav1.ExchangeRequest) error {
	if err := e.stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
		return ofGRPC(err)
	}
	return nil
}

func (e grpcExchange) CloseSend() error { return ofGRPC(e.stream.CloseSend()) }

func (e grpcExchange) Receive() (*datav1.ExchangeResponse, error) {
	response, err := e.stream.Recv()
	return response, ofGRPC(err)
}

// ofGRPC translates an error of grpc-go. Nil stays nil, and the end of a stream
// io.EOF.
func ofGRPC(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	failure := status.Convert(err)
	result := &Error{Code: codeName(failure.Code()), Message: failure.Message()}
	for _, detail := range failure.Details() {
		if dataError, ok := detail.(*datav1.DataError); ok {
			result.Detail = dataError
		}
	}
	return result
}

// codeName returns the code in the words of Connect: grpc-go has FailedPrecondition for failed_precondition.
func codeName(code codes.Code) string {
	var name strings.Builder
	for i, letter := range code.String() {
		if i > 0 && letter >= 'A' && letter <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteString(strings.ToLower(string(letter)))
	}
	return name.String()
}
