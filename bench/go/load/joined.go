package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"google.golang.org/protobuf/proto"
	benchv1 "sluice/bench/gen/bench/v1"
)

// grpc-go sends each message in a DATA frame of its own, and a server's cost for
// a frame then hides its cost for a message. Other clients fill frames with as
// many small messages as are there. These two shapes do, on net/http: everything
// that is sent passes through a joiner.

// prefixBytes is a flag and a length (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
const prefixBytes = 5

func uploadJoined(ctx context.Context, l *load, i int, messages int64) error {
	body := newJoiner(l, messages, func(count int64) { l.tallies[i].messages.Add(count) })
	response, err := l.post(ctx, i, benchv1.BenchService_Upload_FullMethodName, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var all bytes.Buffer
	if _, err := all.ReadFrom(response.Body); err != nil {
		return err
	}
	if err := succeeded(response); err != nil {
		return err
	}
	var summary benchv1.UploadResponse
	if err := proto.Unmarshal(all.Bytes()[min(prefixBytes, all.Len()):], &summary); err != nil {
		return err
	}
	if sent := body.sent.Load(); summary.Messages != uint64(sent) {
		return fmt.Errorf("sent %d messages, the server got %d", sent, summary.Messages)
	}
	return nil
}

func bidiJoined(ctx context.Context, l *load, i int, messages int64) error {
	body := newJoiner(l, messages, func(int64) {})
	response, err := l.post(ctx, i, benchv1.BenchService_Echo_FullMethodName, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	length := int64(prefixBytes + len(l.message))
	buffer := make([]byte, 256<<10)
	var received, counted int64
	for {
		n, err := response.Body.Read(buffer)
		received += int64(n)
		l.tallies[i].messages.Add(received/length - counted)
		counted = received / length
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := succeeded(response); err != nil {
		return err
	}
	if sent := body.sent.Load(); received != sent*length {
		return fmt.Errorf("sent %d messages, got %d bytes back", sent, received)
	}
	return nil
}

// prime makes the connections. net/http answers a peer's SETTINGS only when the
// writer of a request's body lets it, and Node reads nothing while it writes:
// if each had filled the other's socket before, both would wait for ever.
func (l *load) prime(ctx context.Context) error {
	for i := range l.transports {
		response, err := l.post(ctx, i, benchv1.BenchService_Unary_FullMethodName, newJoiner(l, 1, func(int64) {}))
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return err
		}
		if err := succeeded(response); err != nil {
			return err
		}
		_ = response.Body.Close()
	}
	return nil
}

func (l *load) post(ctx context.Context, i int, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+l.options.Target+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/grpc+proto")
	request.Header.Set("Te", "trailers")
	if l.options.Token != "" {
		request.Header.Set("Acme-Token", l.options.Token)
	}
	return l.transports[i%len(l.transports)].RoundTrip(request)
}

func newTransports(o Options) []*http.Transport {
	transports := make([]*http.Transport, o.Connections)
	for i := range transports {
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		transports[i] = &http.Transport{
			Protocols:          &protocols,
			DisableCompression: true,
			HTTP2: &http.HTTP2Config{
				MaxReceiveBufferPerStream:     o.HTTP2Window,
				MaxReceiveBufferPerConnection: o.HTTP2Window,
			},
		}
	}
	return transports
}

// succeeded is asked once the body has been read: the status is in the trailers
// or, of a response without a message, in the headers.
func succeeded(response *http.Response) error {
	status := response.Trailer.Get("Grpc-Status") + response.Header.Get("Grpc-Status")
	if status != "0" {
		message := response.Trailer.Get("Grpc-Message") + response.Header.Get("Grpc-Message")
		return fmt.Errorf("HTTP %d, status %q: %s", response.StatusCode, status, message)
	}
	return nil
}

// A joiner is a request body of many equal messages. It ends with a whole one,
// after so many or when the load stops.
type joiner struct {
	load     *load
	messages int64
	sent     atomic.Int64
	count    func(int64)
	// batch is some whole messages, one after the other; what is sent next begins at offset.
	batch  []byte
	offset int
	length int
}

func newJoiner(l *load, messages int64, count func(int64)) *joiner {
	envelope := make([]byte, prefixBytes, prefixBytes+len(l.message))
	binary.BigEndian.PutUint32(envelope[1:], uint32(len(l.message)))
	envelope = append(envelope, l.message...)
	return &joiner{
		load:     l,
		messages: messages,
		count:    count,
		batch:    bytes.Repeat(envelope, max(1, (64<<10)/len(envelope))),
		length:   len(envelope),
	}
}

// Read gives what fits. A message counts as sent with its first byte.
func (j *joiner) Read(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		within := j.offset % j.length
		if within == 0 && (j.load.stopped.Load() || j.sent.Load() >= j.messages) {
			if written == 0 {
				return 0, io.EOF
			}
			return written, nil
		}
		// To the end of the batch, of the messages that are left, and of p.
		end := min(len(j.batch), j.offset+len(p)-written)
		if within != 0 {
			end = min(end, j.offset-within+j.length)
		} else {
			left := j.messages - j.sent.Load()
			if left < int64(len(j.batch)) && int64(end-j.offset) > left*int64(j.length) {
				end = j.offset + int(left)*j.length
			}
			begun := int64((end - j.offset + j.length - 1) / j.length)
			j.sent.Add(begun)
			j.count(begun)
		}
		n := copy(p[written:], j.batch[j.offset:end])
		written += n
		j.offset = (j.offset + n) % len(j.batch)
	}
	return written, nil
}
