// Command greetclient calls each shape of GreetService with connect-go over
// quic-go's HTTP/3, and writes what came of each call to standard output, one
// JSON object a line.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	greetv1 "sluice/interop/gen/greet/v1"
	"sluice/interop/gen/greet/v1/greetv1connect"
	"sluice/interop/trust"
)

// result is what came of one call.
type result struct {
	Call      string   `json:"call"`
	Greetings []string `json:"greetings,omitempty"`
	// Of the header and the trailer that each response has.
	Version string `json:"version,omitempty"`
	Count   string `json:"count,omitempty"`
	// Of a call that failed.
	Code string `json:"code,omitempty"`
}

func main() {
	log.SetFlags(0)
	ca := flag.String("ca", "", "PEM file with the CA to trust")
	protocol := flag.String("protocol", "connect", "connect, grpc or grpc-web")
	json := flag.Bool("json", false, "send JSON")
	get := flag.Bool("get", false, "call by HTTP GET what has no side effects; with connect")
	token := flag.String("token", "sample", "sent with each call")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: greetclient -ca FILE [-protocol NAME] [-json] [-get] [-token TOKEN] URL")
	}
	var options []connect.ClientOption
	switch *protocol {
	case "connect":
	case "grpc":
		options = append(options, connect.WithGRPC())
	case "grpc-web":
		options = append(options, connect.WithGRPCWeb())
	default:
		log.Fatalf("unknown protocol %q", *protocol)
	}
	if *json {
		options = append(options, connect.WithProtoJSON())
	}
	if *get {
		options = append(options, connect.WithHTTPGet())
	}
	transport, err := trust.Transport(*ca)
	if err != nil {
		log.Fatal(err)
	}
	defer transport.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	calls := calls{
		client: greetv1connect.NewGreetServiceClient(&http.Client{Transport: transport}, flag.Arg(0), options...),
		token:  *token,
	}
	for _, call := range []func(context.Context) result{
		calls.greet, calls.greetAll, calls.greetRepeatedly, calls.greetEach, calls.invalid, calls.late,
	} {
		write(call(ctx))
	}
}

func write(outcome result) {
	if err := json.NewEncoder(os.Stdout).Encode(outcome); err != nil {
		log.Fatal(err)
	}
}

type calls struct {
	client greetv1connect.GreetServiceClient
	token  string
}

const tokenHeader = "Acme-Token"

func (c calls) greet(ctx context.Context) result {
	out := result{Call: "Greet"}
	request := connect.NewRequest(&greetv1.GreetRequest{Name: "Ada"})
	request.Header().Set(tokenHeader, c.token)
	response, err := c.client.Greet(ctx, request)
	if err != nil {
		return out.failed(err)
	}
	out.Greetings = []string{response.Msg.Greeting}
	return out.with(response.Header(), response.Trailer())
}

func (c calls) greetAll(ctx context.Context) result {
	return c.all(ctx, result{Call: "GreetAll"}, "Ada", "Grace")
}

func (c calls) all(ctx context.Context, out result, names ...string) result {
	stream := c.client.GreetAll(ctx)
	stream.RequestHeader().Set(tokenHeader, c.token)
	for _, name := range names {
		// io.EOF: why it has ended is in the answer.
		if err := stream.Send(&greetv1.GreetAllRequest{Name: name}); err != nil && !errors.Is(err, io.EOF) {
			return out.failed(err)
		}
	}
	response, err := stream.CloseAndReceive()
	if err != nil {
		return out.failed(err)
	}
	out.Greetings = []string{response.Msg.Greeting}
	return out.with(response.Header(), response.Trailer())
}

func (c calls) greetRepeatedly(ctx context.Context) result {
	request := &greetv1.GreetRepeatedlyRequest{Name: "Ada", Times: 3}
	return c.repeatedly(ctx, result{Call: "GreetRepeatedly"}, request)
}

func (c calls) repeatedly(ctx context.Context, out result, message *greetv1.GreetRepeatedlyRequest) result {
	request := connect.NewRequest(message)
	request.Header().Set(tokenHeader, c.token)
	stream, err := c.client.GreetRepeatedly(ctx, request)
	if err != nil {
		return out.failed(err)
	}
	defer stream.Close()
	for stream.Receive() {
		out.Greetings = append(out.Greetings, stream.Msg().Greeting)
	}
	if err := stream.Err(); err != nil {
		return out.failed(err)
	}
	return out.with(stream.ResponseHeader(), stream.ResponseTrailer())
}

// greetEach sends a name only when the one before has been answered, which
// takes full duplex.
func (c calls) greetEach(ctx context.Context) result {
	out := result{Call: "GreetEach"}
	stream := c.client.GreetEach(ctx)
	stream.RequestHeader().Set(tokenHeader, c.token)
	for _, name := range []string{"Ada", "Grace", "Edsger"} {
		if err := stream.Send(&greetv1.GreetEachRequest{Name: name}); err != nil && !errors.Is(err, io.EOF) {
			return out.failed(err)
		}
		response, err := stream.Receive()
		if err != nil {
			return out.failed(err)
		}
		out.Greetings = append(out.Greetings, response.Greeting)
	}
	if err := stream.CloseRequest(); err != nil {
		return out.failed(err)
	}
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		return out.failed(err)
	}
	return out.with(stream.ResponseHeader(), stream.ResponseTrailer())
}

// invalid is a call that the server refuses.
func (c calls) invalid(ctx context.Context) result {
	return c.all(ctx, result{Call: "GreetAll without a name"})
}

// late is a call that is answered once, and then waits for longer than its
// deadline. Both sides know of it: whether the server's end arrives before the
// client's own, and brings metadata, is a matter of chance, so that none is told.
func (c calls) late(ctx context.Context) result {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request := &greetv1.GreetRepeatedlyRequest{Name: "Ada", Times: 2, Interval: durationpb.New(time.Hour)}
	out := c.repeatedly(ctx, result{Call: "GreetRepeatedly with a deadline"}, request)
	out.Version, out.Count = "", ""
	return out
}

func (r result) with(header, trailer http.Header) result {
	r.Version = header.Get("Greet-Version")
	r.Count = trailer.Get("Greet-Count")
	return r
}

func (r result) failed(err error) result {
	if err == nil {
		err = errors.New("more came than was asked for")
	}
	var failure *connect.Error
	if errors.As(err, &failure) {
		r.Code = failure.Code().String()
		r.Version = failure.Meta().Get("Greet-Version")
		r.Count = failure.Meta().Get("Greet-Count")
	} else {
		r.Code = err.Error()
	}
	return r
}
