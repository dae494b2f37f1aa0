// Command sessionclient opens WebTransport sessions with quic-go's HTTP/3, as
// draft-ietf-webtrans-http3-02 has them. It reads a session from each line of
// its standard input, and writes what came of it as a line of its standard
// output. A line "!" after a session lets its held streams go on.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"
	"sluice/interop/trust"
)

const (
	// bidirectional is the type of a session's stream: section 4.2.
	bidirectional = 0x41
	// settingWebTransport is SETTINGS_ENABLE_WEBTRANSPORT: section 8.2.
	settingWebTransport = 0x2b603742
)

// session is one to open, and the streams that are opened on it.
type session struct {
	// Authority is what the request is for; by default that of the server.
	Authority string `json:"authority"`
	Origin    string `json:"origin"`
	Path      string `json:"path"`
	// First is sent on a stream of its own, whose end is awaited.
	First   []byte   `json:"first"`
	Streams []stream `json:"streams"`
}

type stream struct {
	Bytes []byte `json:"bytes"`
	// Held are the bytes that follow once the session is to go on.
	Held []byte `json:"held"`
	// Until is a pattern after which no more is read.
	Until string `json:"until"`
}

// outcome is what came of a session.
type outcome struct {
	Status  int      `json:"status"`
	First   []byte   `json:"first"`
	Streams []answer `json:"streams"`
}

type answer struct {
	Bytes []byte `json:"bytes"`
	Ended bool   `json:"ended"`
	Error string `json:"error"`
}

func main() {
	log.SetFlags(0)
	ca := flag.String("ca", "", "PEM file with the CA to trust")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: sessionclient -ca FILE URL")
	}
	server, err := url.Parse(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	encoder := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked session
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			log.Fatal(err)
		}
		goOn := func() {
			fmt.Println("held")
			lines.Scan()
		}
		result, err := open(ctx, *ca, server, asked, goOn)
		if err != nil {
			log.Fatal(err)
		}
		if err := encoder.Encode(result); err != nil {
			log.Fatal(err)
		}
	}
}

func open(ctx context.Context, ca string, server *url.URL, asked session, goOn func()) (*outcome, error) {
	tlsConfig, err := trust.TLS(ca)
	if err != nil {
		return nil, err
	}
	tlsConfig = http3.ConfigureTLSConfig(tlsConfig)
	conn, err := quic.DialAddr(ctx, server.Host, tlsConfig, &quic.Config{EnableDatagrams: true})
	if err != nil {
		return nil, err
	}
	defer conn.CloseWithError(0x100, "")
	transport := http3.Transport{EnableDatagrams: true, AdditionalSettings: map[uint64]uint64{settingWebTransport: 1}}
	client := transport.NewClientConn(conn)
	request := (&http.Request{
		Method: http.MethodConnect,
		Proto:  "webtransport",
		Host:   asked.Authority,
		Header: http.Header{"Sec-Webtransport-Http3-Draft02": {"1"}},
		URL:    &url.URL{Scheme: "https", Host: server.Host, Path: asked.Path},
	}).WithContext(ctx)
	if request.Host == "" {
		request.Host = server.Host
	}
	if asked.Origin != "" {
		request.Header.Set("Origin", asked.Origin)
	}
	connect, err := client.OpenRequestStream(ctx)
	if err != nil {
		return nil, err
	}
	if err := connect.SendRequestHeader(request); err != nil {
		return nil, err
	}
	response, err := connect.ReadResponse()
	if err != nil {
		return nil, err
	}
	result := &outcome{Status: response.StatusCode, Streams: []answer{}}
	if response.StatusCode != http.StatusOK {
		return result, nil
	}
	id := uint64(connect.StreamID())
	first := begin(ctx, conn, id, stream{Bytes: asked.First})
	first.finish()
	result.First = first.read().Bytes
	opened := make([]*running, len(asked.Streams))
	holding := false
	for i, each := range asked.Streams {
		opened[i] = begin(ctx, conn, id, each)
		if each.Held == nil {
			opened[i].finish()
		} else {
			holding = true
		}
	}
	if holding {
		goOn()
	}
	result.Streams = make([]answer, len(opened))
	var reading sync.WaitGroup
	for i, each := range opened {
		if asked.Streams[i].Held != nil {
			each.write(asked.Streams[i].Held)
			each.finish()
		}
		reading.Go(func() { result.Streams[i] = each.read() })
	}
	reading.Wait()
	return result, nil
}

// running is a stream of a session.
type running struct {
	*quic.Stream
	until *regexp.Regexp
	err   error
}

func begin(ctx context.Context, conn *quic.Conn, session uint64, asked stream) *running {
	opened, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return &running{err: err}
	}
	result := &running{Stream: opened}
	if asked.Until != "" {
		result.until = regexp.MustCompile(asked.Until)
	}
	head := quicvarint.Append(quicvarint.Append(nil, bidirectional), session)
	result.write(append(head, asked.Bytes...))
	return result
}

func (r *running) write(bytes []byte) {
	if r.err == nil {
		_, r.err = r.Write(bytes)
	}
}

func (r *running) finish() {
	if r.err == nil {
		r.err = r.Close()
	}
}

// read takes what comes up to the end, or the pattern. A server may stop what
// the client sends, and answer all the same.
func (r *running) read() answer {
	if r.Stream == nil {
		return answer{Error: r.err.Error()}
	}
	var all []byte
	chunk := make([]byte, 16<<10)
	for {
		n, err := r.Read(chunk)
		all = append(all, chunk[:n]...)
		switch {
		case errors.Is(err, io.EOF):
			return answer{Bytes: all, Ended: true}
		case err != nil:
			return answer{Bytes: all, Error: err.Error()}
		case r.until != nil && r.until.Match(all):
			r.CancelRead(0)
			return answer{Bytes: all}
		}
	}
}
