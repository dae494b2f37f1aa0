// Command rawclient makes one HTTP/3 request with quic-go, and writes what
// happens to standard output, a line for each event:
//
//	head STATUS
//	header NAME: VALUE
//	got TEXT
//	trailer NAME: VALUE
//	end
//
// What it sends are the lines of its standard input, 100 ms after each has come.
// Of a stream that has been taken over, the line "!close" ends the client's
// half, and "!cancel" leaves both.
//
// The command "repeat" makes a request for each line of its standard input, on
// one connection as long as that lives, and writes the status of each or
// "failed REASON".
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"sluice/interop/trust"
)

const step = 100 * time.Millisecond

func main() {
	log.SetFlags(0)
	client := client{}
	flag.StringVar(&client.ca, "ca", "", "PEM file with the CA to trust")
	flag.StringVar(&client.token, "token", "", "sent with the request")
	flag.Parse()
	if flag.NArg() != 2 {
		log.Fatal("usage: rawclient -ca FILE [-token TOKEN] upload|download|takeover|repeat URL")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	switch flag.Arg(0) {
	case "upload":
		err = client.upload(ctx, flag.Arg(1))
	case "download":
		err = client.download(ctx, flag.Arg(1))
	case "takeover":
		err = client.takeover(ctx, flag.Arg(1))
	case "repeat":
		err = client.repeat(ctx, flag.Arg(1))
	default:
		err = fmt.Errorf("unknown command %q", flag.Arg(0))
	}
	if err != nil {
		log.Fatal(err)
	}
}

type client struct {
	ca    string
	token string
}

func (c client) request(ctx context.Context, method, target string, body io.Reader) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err == nil && c.token != "" {
		request.Header.Set("Acme-Token", c.token)
	}
	return request, err
}

// upload sends a body through a pipe, which takes as much as the transport asks
// for, and knows no length.
func (c client) upload(ctx context.Context, target string) error {
	reader, writer := io.Pipe()
	go func() {
		writer.CloseWithError(eachLine(func(line []byte) error {
			_, err := writer.Write(line)
			return err
		}))
	}()
	return c.roundTrip(ctx, http.MethodPost, target, reader)
}

func (c client) download(ctx context.Context, target string) error {
	return c.roundTrip(ctx, http.MethodGet, target, nil)
}

func (c client) roundTrip(ctx context.Context, method, target string, body io.Reader) error {
	transport, err := trust.Transport(c.ca)
	if err != nil {
		return err
	}
	defer transport.Close()
	request, err := c.request(ctx, method, target, body)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	showHead(response)
	return show(response.Body, response)
}

// repeat shows what becomes of a connection whose server goes away.
func (c client) repeat(ctx context.Context, target string) error {
	transport, err := trust.Transport(c.ca)
	if err != nil {
		return err
	}
	defer transport.Close()
	return eachLine(func([]byte) error {
		request, err := c.request(ctx, http.MethodGet, target, nil)
		if err != nil {
			return err
		}
		response, err := transport.RoundTrip(request)
		var reset *quic.StatelessResetError
		switch {
		case errors.As(err, &reset):
			fmt.Println("failed stateless reset")
		case err != nil:
			fmt.Println("failed", err)
		default:
			response.Body.Close()
			fmt.Println("head", response.StatusCode)
		}
		return nil
	})
}

// takeover sends the headers of a request and nothing else, waits for the
// answer to them, and then uses the stream in both directions.
func (c client) takeover(ctx context.Context, target string) error {
	config, err := trust.TLS(c.ca)
	if err != nil {
		return err
	}
	config.NextProtos = []string{http3.NextProtoH3}
	parsed, err := url.Parse(target)
	if err != nil {
		return err
	}
	connection, err := quic.DialAddr(ctx, parsed.Host, config, &quic.Config{})
	if err != nil {
		return err
	}
	h3 := (&http3.Transport{}).NewClientConn(connection)
	defer h3.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	stream, err := h3.OpenRequestStream(ctx)
	if err != nil {
		return err
	}
	// With POST quic-go would send a content-length of 0, as there is no body yet, and any byte would be too much.
	request, err := c.request(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	if err := stream.SendRequestHeader(request); err != nil {
		return err
	}
	response, err := stream.ReadResponse()
	if err != nil {
		return err
	}
	showHead(response)
	if response.StatusCode != http.StatusOK {
		// Only then, because it may cut the answer too.
		defer stream.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		return show(response.Body, response)
	}
	sent := make(chan error, 1)
	go func() {
		err := eachLine(func(line []byte) error {
			switch string(line) {
			case "!close":
				return stream.Close()
			case "!cancel":
				stream.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
				stream.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
				return errors.New("canceled")
			}
			_, err := stream.Write(line)
			return err
		})
		if err == io.EOF {
			err = stream.Close()
		}
		sent <- err
	}()
	if err := show(stream, response); err != nil {
		return err
	}
	return <-sent
}

// eachLine hands on each line of standard input, without its end. It returns
// io.EOF after the last.
func eachLine(use func([]byte) error) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		time.Sleep(step)
		if err := use(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}

func showHead(response *http.Response) {
	fmt.Printf("head %d\n", response.StatusCode)
	showFields("header", response.Header)
}

// show writes what comes, piece by piece as it is read.
func show(body io.Reader, response *http.Response) error {
	piece := make([]byte, 64*1024)
	for {
		n, err := body.Read(piece)
		if n > 0 {
			fmt.Printf("got %s\n", piece[:n])
		}
		if err == io.EOF {
			showFields("trailer", response.Trailer)
			fmt.Println("end")
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func showFields(kind string, fields http.Header) {
	for name, values := range fields {
		for _, value := range values {
			fmt.Printf("%s %s: %s\n", kind, name, value)
		}
	}
}
