package main

import (
	"bytes"
	"io"
	"net/http/httptest"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	benchv1 "sluice/bench/gen/bench/v1"
)

func TestUploadCountsMessagesHoweverTheyAreCut(t *testing.T) {
	var body []byte
	sizes := []int{1, 100, 127, 128, 65_536}
	var total uint64
	for _, size := range sizes {
		message := protowire.AppendTag(nil, 1, protowire.BytesType)
		body = append(body, envelope(protowire.AppendBytes(message, make([]byte, size)))...)
		total += uint64(size)
	}
	for name, reader := range map[string]io.Reader{
		"as it is":        bytes.NewReader(body),
		"byte by byte":    iotest.OneByteReader(bytes.NewReader(body)),
		"with the end":    iotest.DataErrReader(bytes.NewReader(body)),
		"half and half":   iotest.HalfReader(bytes.NewReader(body)),
		"slowly at first": io.MultiReader(bytes.NewReader(body[:3]), bytes.NewReader(body[3:])),
	} {
		w := httptest.NewRecorder()
		if err := upload(w, httptest.NewRequest("POST", "/", reader)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var response benchv1.UploadResponse
		if err := proto.Unmarshal(w.Body.Bytes()[prefixBytes:], &response); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if response.Messages != uint64(len(sizes)) || response.Bytes != total {
			t.Errorf("%s: %d messages with %d bytes, not %d with %d", name, response.Messages, response.Bytes, len(sizes), total)
		}
	}
}

func TestDownloadSendsAsManyAsAskedFor(t *testing.T) {
	for _, messages := range []uint64{1, 1000, 1001} {
		request, err := proto.Marshal(&benchv1.DownloadRequest{Messages: messages, Size: 100})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		if err := download(w, httptest.NewRequest("POST", "/", bytes.NewReader(envelope(request)))); err != nil {
			t.Fatal(err)
		}
		if want := int(messages) * (prefixBytes + 2 + 100); w.Body.Len() != want {
			t.Errorf("%d messages: %d bytes, not %d", messages, w.Body.Len(), want)
		}
	}
}
