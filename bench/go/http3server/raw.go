package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	benchv1 "sluice/bench/gen/bench/v1"
)

// prefixBytes is a flag and a length (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
const prefixBytes = 5

// batchBytes are read and written at a time.
const batchBytes = 64 << 10

func handleRaw(mux *http.ServeMux) {
	mux.HandleFunc(benchv1.BenchService_Unary_FullMethodName, answering(echo))
	mux.HandleFunc(benchv1.BenchService_Upload_FullMethodName, answering(upload))
	mux.HandleFunc(benchv1.BenchService_Download_FullMethodName, answering(download))
}

// answering puts gRPC's headers and trailers around a body.
func answering(handle func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc+proto")
		status := "0"
		if err := handle(w, r); err != nil {
			status = "2"
		}
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
	}
}

func echo(w http.ResponseWriter, r *http.Request) error {
	_, err := io.Copy(w, r.Body)
	return err
}

// upload goes from prefix to prefix.
func upload(w http.ResponseWriter, r *http.Request) error {
	var response benchv1.UploadResponse
	buffer := make([]byte, batchBytes)
	var prefix []byte
	var left int
	for {
		n, err := r.Body.Read(buffer)
		for got := buffer[:n]; len(got) > 0; {
			if left > 0 {
				taken := min(left, len(got))
				got, left = got[taken:], left-taken
				continue
			}
			taken := min(prefixBytes-len(prefix), len(got))
			prefix, got = append(prefix, got[:taken]...), got[taken:]
			if len(prefix) == prefixBytes {
				left = int(binary.BigEndian.Uint32(prefix[1:]))
				response.Messages++
				response.Bytes += uint64(dataBytes(left))
				prefix = prefix[:0]
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	data, err := proto.Marshal(&response)
	if err != nil {
		return err
	}
	_, err = w.Write(envelope(data))
	return err
}

func download(w http.ResponseWriter, r *http.Request) error {
	all, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	var request benchv1.DownloadRequest
	if err := proto.Unmarshal(all[min(prefixBytes, len(all)):], &request); err != nil {
		return err
	}
	message := protowire.AppendTag(nil, 1, protowire.BytesType)
	message = envelope(protowire.AppendBytes(message, make([]byte, request.Size)))
	batch := uint64(max(1, batchBytes/len(message)))
	many := bytes.Repeat(message, int(batch))
	for left := request.Messages; left > 0; {
		count := min(left, batch)
		if _, err := w.Write(many[:int(count)*len(message)]); err != nil {
			return err
		}
		left -= count
	}
	return nil
}

func envelope(message []byte) []byte {
	all := make([]byte, prefixBytes, prefixBytes+len(message))
	binary.BigEndian.PutUint32(all[1:], uint32(len(message)))
	return append(all, message...)
}

// dataBytes is how many bytes of data a message of so many bytes has, behind a tag and a length.
func dataBytes(message int) int {
	for length := 1; length <= 5; length++ {
		if data := message - 1 - length; data >= 0 && protowire.SizeVarint(uint64(data)) == length {
			return data
		}
	}
	return 0
}
