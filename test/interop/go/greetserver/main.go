// Command greetserver serves GreetService with connect-go on quic-go's HTTP/3
// server, and raw bodies: /echo sends them back, and /refuse takes no more of
// one, and answers it once /answer has been called. It says on standard output
// where it listens, and when a client has left a call; it drains when its
// standard input ends.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/quic-go/quic-go/http3"
	greetv1 "sluice/interop/gen/greet/v1"
	"sluice/interop/gen/greet/v1/greetv1connect"
)

// nobody is the name of a guest who cannot be greeted.
const nobody = "nobody"

func greeting(names ...string) (string, error) {
	for _, name := range names {
		if name == nobody {
			failure := connect.NewError(connect.CodeNotFound, errors.New("no such guest"))
			detail, err := connect.NewErrorDetail(&greetv1.GreetRequest{Name: name})
			if err != nil {
				return "", err
			}
			failure.AddDetail(detail)
			failure.Meta().Set("Greet-Error", "m")
			return "", failure
		}
	}
	return "Hello, " + strings.Join(names, " and ") + "!", nil
}

type service struct{}

func (service) Greet(_ context.Context, request *connect.Request[greetv1.GreetRequest]) (*connect.Response[greetv1.GreetResponse], error) {
	text, err := greeting(request.Msg.Name)
	if err != nil {
		return nil, err
	}
	response := connect.NewResponse(&greetv1.GreetResponse{Greeting: text})
	finish(response.Header(), response.Trailer(), 1)
	return response, nil
}

func (service) GreetAll(_ context.Context, stream *connect.ClientStream[greetv1.GreetAllRequest]) (*connect.Response[greetv1.GreetAllResponse], error) {
	var names []string
	for stream.Receive() {
		names = append(names, stream.Msg().Name)
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	text, err := greeting(names...)
	if err != nil {
		return nil, err
	}
	response := connect.NewResponse(&greetv1.GreetAllResponse{Greeting: text})
	finish(response.Header(), response.Trailer(), 1)
	return response, nil
}

func (service) GreetRepeatedly(ctx context.Context, request *connect.Request[greetv1.GreetRepeatedlyRequest], stream *connect.ServerStream[greetv1.GreetRepeatedlyResponse]) error {
	finish(stream.ResponseHeader(), stream.ResponseTrailer(), int(request.Msg.Times))
	for i := range request.Msg.Times {
		if pause := request.Msg.Interval.AsDuration(); i > 0 && pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				fmt.Println("left")
				return ctx.Err()
			}
		}
		text, err := greeting(request.Msg.Name)
		if err != nil {
			return err
		}
		if err := stream.Send(&greetv1.GreetRepeatedlyResponse{Greeting: text}); err != nil {
			return err
		}
	}
	return nil
}

func (service) GreetEach(_ context.Context, stream *connect.BidiStream[greetv1.GreetEachRequest, greetv1.GreetEachResponse]) error {
	finish(stream.ResponseHeader(), stream.ResponseTrailer(), 0)
	for count := 1; ; count++ {
		request, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			fmt.Println("left")
			return err
		}
		text, err := greeting(request.Name)
		if err != nil {
			return err
		}
		stream.ResponseTrailer().Set("Greet-Count", strconv.Itoa(count))
		if err := stream.Send(&greetv1.GreetEachResponse{Greeting: text}); err != nil {
			return err
		}
	}
}

func finish(header, trailer http.Header, count int) {
	header.Set("Greet-Version", "v1")
	trailer.Set("Greet-Count", strconv.Itoa(count))
}

// echo answers with each piece of the body as it comes.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "Echo-Bytes")
	w.WriteHeader(http.StatusOK)
	controller := http.NewResponseController(w)
	if err := controller.Flush(); err != nil {
		return
	}
	piece := make([]byte, 64*1024)
	total := 0
	for {
		n, err := r.Body.Read(piece)
		if n > 0 {
			if _, err := w.Write(piece[:n]); err != nil {
				return
			}
			if err := controller.Flush(); err != nil {
				return
			}
		}
		total += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fmt.Println("left")
			panic(http.ErrAbortHandler)
		}
	}
	w.Header().Set("Echo-Bytes", strconv.Itoa(total))
}

// refusal stops its client with quic-go's code for that, REQUEST_CANCELLED.
type refusal struct {
	answer chan struct{}
}

func (f refusal) refuse(w http.ResponseWriter, r *http.Request) {
	if err := r.Body.Close(); err != nil {
		return
	}
	select {
	case <-f.answer:
		_, _ = io.WriteString(w, "enough")
	case <-r.Context().Done():
	}
}

func main() {
	cert := flag.String("cert", "", "PEM file with the certificate")
	key := flag.String("key", "", "PEM file with its key")
	flag.Parse()
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		log.Fatal(err)
	}
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(greetv1connect.NewGreetServiceHandler(service{}))
	mux.HandleFunc("/echo", echo)
	refusal := refusal{answer: make(chan struct{})}
	mux.HandleFunc("/refuse", refusal.refuse)
	mux.HandleFunc("/answer", func(http.ResponseWriter, *http.Request) { refusal.answer <- struct{}{} })
	server := &http3.Server{
		Handler:   mux,
		TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{pair}}),
	}
	// It drains when its standard input ends.
	drained := make(chan error, 1)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		drained <- server.Shutdown(ctx)
	}()
	fmt.Printf("listening on https://%s\n", socket.LocalAddr())
	if err := server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	if err := <-drained; err != nil {
		log.Fatal(err)
	}
}
