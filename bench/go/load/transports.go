package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// newTransports makes as many as there are to be connections. All three HTTPs
// have the same windows, and one program reads and writes the bodies of all.
func newTransports(o Options) ([]http.RoundTripper, error) {
	if o.HTTP3 && o.CA == "" {
		return nil, errors.New("HTTP/3 needs -ca")
	}
	security, err := trust(o.CA)
	if err != nil {
		return nil, err
	}
	transports := make([]http.RoundTripper, o.Connections)
	for i := range transports {
		if o.HTTP3 {
			transports[i] = newHTTP3Transport(o, security)
		} else {
			transports[i] = newHTTP2Transport(o, security)
		}
	}
	return transports, nil
}

func newHTTP2Transport(o Options, security *tls.Config) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP2(security != nil)
	protocols.SetUnencryptedHTTP2(security == nil)
	transport := &http.Transport{
		Protocols:          &protocols,
		TLSClientConfig:    security,
		DisableCompression: true,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream:     o.HTTP2Window,
			MaxReceiveBufferPerConnection: o.HTTP2Window,
		},
	}
	if security != nil {
		// A record has up to 16 KiB.
		transport.ReadBufferSize = 64 << 10
		transport.WriteBufferSize = 64 << 10
	}
	return transport
}

func newHTTP3Transport(o Options, security *tls.Config) *http3.Transport {
	window := uint64(o.HTTP2Window)
	return &http3.Transport{
		TLSClientConfig:    security,
		DisableCompression: true,
		QUICConfig: &quic.Config{
			InitialStreamReceiveWindow:     window,
			MaxStreamReceiveWindow:         window,
			InitialConnectionReceiveWindow: window,
			MaxConnectionReceiveWindow:     window,
		},
	}
}

// trust is nil without a file.
func trust(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	return &tls.Config{RootCAs: roots}, nil
}
