// Package dataclient calls DataService through the stubs of connect-go or of
// grpc-go, whichever a connection is for, behind one interface.
package dataclient

import (
	"context"
	"fmt"
	"net"
	"time"

	datav1 "sluice/interop/gen/data/v1"
)

// TokenHeader carries the token that Token is for.
const (
	TokenHeader = "Acme-Token"
	Token       = "sample"
)

// Client is one connection to a server. Its errors are of type *Error.
type Client interface {
	CreateStream(context.Context, *datav1.CreateStreamRequest) (*datav1.CreateStreamResponse, error)
	GetStream(context.Context, *datav1.GetStreamRequest) (*datav1.GetStreamResponse, error)
	DeleteStream(context.Context, *datav1.DeleteStreamRequest) (*datav1.DeleteStreamResponse, error)
	SealStream(context.Context, *datav1.SealStreamRequest) (*datav1.SealStreamResponse, error)
	ClaimProducer(context.Context, *datav1.ClaimProducerRequest) (*datav1.ClaimProducerResponse, error)
	Append(context.Context, *datav1.AppendRequest) (*datav1.AppendResponse, error)
	// Upload sends all requests before it waits for the response.
	Upload(context.Context, ...*datav1.UploadRequest) (*datav1.UploadResponse, error)
	// Read calls take with each response until it returns false, which cancels the call.
	Read(ctx context.Context, request *datav1.ReadRequest, take func(*datav1.ReadResponse) bool) error
	// Exchange needs HTTP/2. Canceling the context releases it.
	Exchange(context.Context) (Exchange, error)
	Close() error
}

// Exchange is an Exchange call.
type Exchange interface {
	// Send returns no error of the server: Receive has it.
	Send(*datav1.ExchangeRequest) error
	CloseSend() error
	// Receive returns io.EOF at the end of a call that succeeded.
	Receive() (*datav1.ExchangeResponse, error)
}

// Protocol is what a connection speaks.
type Protocol string

// The protocols, as flags name them.
const (
	Connect      Protocol = "connect"
	ConnectHTTP1 Protocol = "connect-http1"
	GRPCWeb      Protocol = "grpc-web"
	// ConnectGRPC is gRPC by connect-go, and GRPC by grpc-go.
	ConnectGRPC Protocol = "connect-grpc"
	GRPC        Protocol = "grpc"
)

// Duplex tells whether Exchange can be full duplex.
func (p Protocol) Duplex() bool { return p != ConnectHTTP1 }

// New returns a client of the cleartext server at host:port. It connects with
// the first call, and again as often as a call finds no connection, for as
// long as the call's context lasts.
func New(protocol Protocol, address string) (Client, error) {
	switch protocol {
	case Connect, ConnectHTTP1, GRPCWeb, ConnectGRPC:
		return newConnect(protocol, address), nil
	case GRPC:
		return newGRPC(address)
	default:
		return nil, fmt.Errorf("unknown protocol %q: it must be connect, connect-http1, grpc-web, connect-grpc or grpc", protocol)
	}
}

// redialDelay is the time between two attempts to connect.
const redialDelay = 10 * time.Millisecond

// dial connects as soon as the server listens. A call that finds no server
// waits, so that it fails only after it may have been sent.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, network, address)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(redialDelay):
		}
	}
}

// Error is a call that failed.
type Error struct {
	// Code is the RPC code in the words of Connect, such as "not_found".
	Code    string
	Message string
	// Detail is absent if the server gave none.
	Detail *datav1.DataError
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s (%s)", e.Code, e.Message, e.Reason())
}

// Reason is REASON_UNSPECIFIED without a detail.
func (e *Error) Reason() datav1.DataError_Reason { return e.Detail.GetReason() }

// IsLost tells whether nothing is known of the call's effect: its connection
// broke, or its time was over.
func (e *Error) IsLost() bool {
	if e.Detail != nil {
		return false
	}
	switch e.Code {
	case "unavailable", "canceled", "deadline_exceeded", "unknown", "internal":
		return e.Message != serverFault
	default:
		return false
	}
}

// serverFault is what the server says of a failure that it did not expect.
const serverFault = "internal error"
