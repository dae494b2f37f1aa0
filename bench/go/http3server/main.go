// Command http3server serves BenchService over HTTP/3 with quic-go, in its
// defaults: with connect-go, or, with -raw, by handlers that look at nothing
// but envelopes, which is all that quic-go can do.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"

	"github.com/quic-go/quic-go/http3"
	"sluice/bench/benchservice"
	"sluice/bench/gen/bench/v1/benchv1connect"
)

func main() {
	log.SetFlags(0)
	host := flag.String("host", "127.0.0.1", "address to listen on")
	cert := flag.String("cert", "", "PEM file with the certificate")
	key := flag.String("key", "", "PEM file with its key")
	raw := flag.Bool("raw", false, "without connect-go")
	flag.Parse()
	certificate, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		log.Fatal(err)
	}
	socket, err := net.ListenPacket("udp", net.JoinHostPort(*host, "0"))
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	if *raw {
		handleRaw(mux)
	} else {
		mux.Handle(benchv1connect.NewBenchServiceHandler(benchservice.Service{}))
	}
	server := &http3.Server{
		Handler:   mux,
		TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{certificate}}),
	}
	fmt.Printf("listening on %s\n", socket.LocalAddr())
	log.Fatal(server.Serve(socket))
}
