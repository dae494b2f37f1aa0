package dataclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"

	"connectrpc.com/connect"
	datav1 "sluice/interop/gen/data/v1"
	"sluice/interop/gen/data/v1/datav1connect"
)

type connectClient struct {
	transport *http.Transport
	stub      datav1connect.DataServiceClient
}

func newConnect(protocol Protocol, address string) *connectClient {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(protocol == ConnectHTTP1)
	protocols.SetUnencryptedHTTP2(protocol != ConnectHTTP1)
	transport := &http.Transport{DialContext: dial, Protocols: protocols}
	options := []connect.ClientOption{connect.WithInterceptors(withToken{})}
	switch protocol {
	case GRPCWeb:
		options = append(options, connect.WithGRPCWeb())
	case ConnectGRPC:
		options = append(options, connect.WithGRPC())
	}
	client := &http.Client{Transport: transport}
	return &connectClient{transport, datav1connect.NewDataServiceClient(client, "http://"+address, options...)}
}

// call makes a unary call of a stub's method.
func call[Request, Response any](
	ctx context.Context,
	method func(context.Context, *connect.Request[Request]) (*connect.Response[Response], error),
	request *Request,
) (*Response, error) {
	response, err := method(ctx, connect.NewRequest(request))
	if err != nil {
		return nil, ofConnect(err)
	}
	return response.Msg, nil
}

func (c *connectClient) CreateStream(ctx context.Context, request *datav1.CreateStreamRequest) (*datav1.CreateStreamResponse, error) {
	return call(ctx, c.stub.CreateStream, request)
}

func (c *connectClient) GetStream(ctx context.Context, request *datav1.GetStreamRequest) (*datav1.GetStreamResponse, error) {
	return call(ctx, c.stub.GetStream, request)
}

func (c *connectClient) DeleteStream(ctx context.Context, request *datav1.DeleteStreamRequest) (*datav1.DeleteStreamResponse, error) {
	return call(ctx, c.stub.DeleteStream, request)
}

func (c *connectClient) SealStream(ctx context.Context, request *datav1.SealStreamRequest) (*datav1.SealStreamResponse, error) {
	return call(ctx, c.stub.SealStream, request)
}

func (c *connectClient) ClaimProducer(ctx context.Context, request *datav1.ClaimProducerRequest) (*datav1.ClaimProducerResponse, error) {
	return call(ctx, c.stub.ClaimProducer, request)
}

func (c *connectClient) Append(ctx context.Context, request *datav1.AppendRequest) (*datav1.AppendResponse, error) {
	return call(ctx, c.stub.Append, request)
}

func (c *connectClient) Upload(ctx context.Context, requests ...*datav1.UploadRequest) (*datav1.UploadResponse, error) {
	stream := c.stub.Upload(ctx)
	for _, request := range requests {
		// io.EOF: the reason is in the response.
		if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
			return nil, ofConnect(err)
		}
	}
	response, err := stream.CloseAndReceive()
	if err != nil {
		return nil, ofConnect(err)
	}
	return response.Msg, nil
}

func (c *connectClient) Read(ctx context.Context, request *datav1.ReadRequest, take func(*datav1.ReadResponse) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.stub.Read(ctx, connect.NewRequest(request))
	if err != nil {
		return ofConnect(err)
	}
	for stream.Receive() {
		if !take(stream.Msg()) {
			return nil
		}
	}
	return ofConnect(stream.Err())
}

func (c *connectClient) Exchange(ctx context.Context) (Exchange, error) {
	return connectExchange{c.stub.Exchange(ctx)}, nil
}

func (c *connectClient) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

type connectExchange struct {
	stream *connect.BidiStreamForClient[datav1.ExchangeRequest, datav1.ExchangeResponse]
}

func (e connectExchange) Send(request *datav1.ExchangeRequest) error {
	if err := e.stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
		return ofConnect(err)
	}
	return nil
}

func (e connectExchange) CloseSend() error { return ofConnect(e.stream.CloseRequest()) }

func (e connectExchange) Receive() (*datav1.ExchangeResponse, error) {
	response, err := e.stream.Receive()
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	return response, ofConnect(err)
}

// httpStatus is what connect-go has for a message when it cannot read the error
// in a response's body, such as one that ends with its connection.
var httpStatus = regexp.MustCompile(`^[0-9]{3} `)

// ofConnect translates an error of connect-go; nil stays nil.
func ofConnect(err error) error {
	if err == nil {
		return nil
	}
	var failure *connect.Error
	if !errors.As(err, &failure) {
		return &Error{Code: connect.CodeUnknown.String(), Message: err.Error()}
	}
	result := &Error{Code: failure.Code().String(), Message: failure.Message()}
	if !connect.IsWireError(err) && httpStatus.MatchString(result.Message) {
		result.Code = connect.CodeUnavailable.String()
	}
	for _, detail := range failure.Details() {
		value, err := detail.Value()
		if err != nil {
			continue
		}
		if dataError, ok := value.(*datav1.DataError); ok {
			result.Detail = dataError
		}
	}
	return result
}

// withToken adds the token to every call.
type withToken struct{}

func (withToken) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		request.Header().Set(TokenHeader, Token)
		return next(ctx, request)
	}
}

func (withToken) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set(TokenHeader, Token)
		return conn
	}
}

func (withToken) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
