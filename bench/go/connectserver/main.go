// Command connectserver serves BenchService with connect-go on net/http, in
// their defaults.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"

	"sluice/bench/benchservice"
	"sluice/bench/gen/bench/v1/benchv1connect"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(benchv1connect.NewBenchServiceHandler(benchservice.Service{}))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: mux, Protocols: &protocols}
	fmt.Printf("listening on %s\n", listener.Addr())
	log.Fatal(server.Serve(listener))
}
