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
// many small messages as are there. These shapes do, on net/http, and so over
// HTTP/3 too: everything that is sent passes through a joiner.

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

func downloadJoined(ctx context.Context, l *load, i int, messages int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request, err := proto.Marshal(&benchv1.DownloadRequest{Messages: uint64(messages), Size: uint32(l.options.Size)})
	if err != nil {
		return err
	}
	response, err := l.post(ctx, i, benchv1.BenchService_Download_FullMethodName, bytes.NewReader(envelope(request)))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	received, err := l.count(i, response.Body)
	if l.stopped.Load() {
		return nil
	}
	if err != nil {
		return err
	}
	if err := succeeded(response); err != nil {
		return err
	}
	if want := messages * int64(prefixBytes+len(l.message)); received != want {
		return fmt.Errorf("asked for %d messages, got %d bytes, not %d", messages, received, want)
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
	received, err := l.count(i, response.Body)
	if err != nil {
		return err
	}
	if err := succeeded(response); err != nil {
		return err
	}
	if sent := body.sent.Load(); received != sent*int64(body.length) {
		return fmt.Errorf("sent %d messages, got %d bytes back", sent, received)
	}
	return nil
}

// count reads a body of equal messages to its end, or a download until the
// load stops, and returns how many bytes it had.
func (l *load) count(i int, body io.Reader) (int64, error) {
	length := int64(prefixBytes + len(l.message))
	buffer := make([]byte, 256<<10)
	var received, counted int64
	for {
		n, err := body.Read(buffer)
		received += int64(n)
		l.tallies[i].messages.Add(received/length - counted)
		counted = received / length
		if err == io.EOF {
			return received, nil
		}
		if err != nil || (l.stopped.Load() && l.options.Shape == downloadJoinedShape) {
			return received, err
		}
	}
}

// envelope is a message behind its prefix.
func envelope(message []byte) []byte {
	all := make([]byte, prefixBytes, prefixBytes+len(message))
	binary.BigEndian.PutUint32(all[1:], uint32(len(message)))
	return append(all, message...)
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
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.options.scheme()+"://"+l.options.Target+path, body)
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
	message := envelope(l.message)
	return &joiner{
		load:     l,
		messages: messages,
		count:    count,
		batch:    bytes.Repeat(message, max(1, (64<<10)/len(message))),
		length:   len(message),
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
