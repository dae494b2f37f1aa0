// Package trust makes HTTP/3 clients that trust a CA of one's own.
package trust

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/quic-go/quic-go/http3"
)

// TLS trusts the CA in the file, and nobody else.
func TLS(file string) (*tls.Config, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, nil
}

// Transport carries net/http's requests over HTTP/3.
func Transport(file string) (*http3.Transport, error) {
	config, err := TLS(file)
	if err != nil {
		return nil, err
	}
	return &http3.Transport{TLSClientConfig: config}, nil
}
