// Command producerclient appends to a stream as a producer that it claims: each
// batch under its number, again, with other content, behind a gap, and after
// another claim. It prints what it was answered, a line of JSON for each step.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"sluice/interop/dataclient"
	datav1 "sluice/interop/gen/data/v1"
)

const producerID = "go"

// headers is how many each record has: there are many orders to send them in.
const headers = 8

// repeats is how often a batch is sent again.
const repeats = 20

// answer is what came of one step.
type answer struct {
	Step  string `json:"step"`
	Epoch uint64 `json:"epoch,omitempty"`
	// Acks of a call that appends.
	Acks []ack `json:"acks,omitempty"`
	// Summary is of an Upload.
	Summary *summary `json:"summary,omitempty"`
	// Next is the producer_seq that must come next, as an Exchange that was opened or a failure tells.
	Next *uint64 `json:"next,omitempty"`
	// Records is what a read found.
	Records []string `json:"records,omitempty"`
	// Encodings tells whether a batch had several when it was sent again.
	Encodings bool `json:"encodings,omitempty"`
	// Of a call that failed.
	Code         string  `json:"code,omitempty"`
	Reason       string  `json:"reason,omitempty"`
	CurrentEpoch *uint64 `json:"currentEpoch,omitempty"`
}

type ack struct {
	FirstSeq  uint64 `json:"firstSeq"`
	NextSeq   uint64 `json:"nextSeq"`
	Duplicate bool   `json:"duplicate,omitempty"`
}

type summary struct {
	FirstSeq         uint64 `json:"firstSeq"`
	NextSeq          uint64 `json:"nextSeq"`
	Records          uint64 `json:"records,omitempty"`
	DuplicateBatches uint64 `json:"duplicateBatches,omitempty"`
}

// batch is one to append.
type batch struct {
	seq   uint64
	texts []string
}

func main() {
	log.SetFlags(0)
	protocol := flag.String("protocol", "connect", "connect, connect-http1, grpc-web, connect-grpc or grpc")
	call := flag.String("call", "append", "what appends: append, upload or exchange")
	stream := flag.String("stream", "produced", "name of the stream, which must not exist")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: producerclient [-protocol NAME] [-call NAME] [-stream NAME] HOST:PORT")
	}
	client, err := dataclient.New(dataclient.Protocol(*protocol), flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p := producer{ctx, client, *stream}
	appends := map[string]func(string, uint64, ...batch){
		"append": p.append, "upload": p.upload, "exchange": p.exchange,
	}[*call]
	if appends == nil {
		log.Fatalf("unknown call %q: it must be append, upload or exchange", *call)
	}
	first, second := batch{0, []string{"a", "b"}}, batch{1, []string{"c"}}
	old := p.claim("claim")
	appends("two batches", old, first, second)
	again := make([]batch, repeats)
	for i := range again {
		again[i] = first
	}
	appends("the first again and again", old, again...)
	write(answer{Step: "encodings", Encodings: encodings(first) > 1})
	appends("other content under its number", old, batch{0, []string{"a", "x"}})
	appends("fewer records under its number", old, batch{0, []string{"a"}})
	appends("a number too high", old, batch{3, []string{"d"}})
	current := p.claim("claim again")
	appends("under the old epoch", old, batch{2, []string{"d"}})
	appends("the first of the new epoch", current, batch{0, []string{"a", "b"}})
	appends("behind it", current, batch{1, []string{"e"}})
	p.read()
}

type producer struct {
	ctx    context.Context
	client dataclient.Client
	stream string
}

func (p producer) claim(step string) uint64 {
	response, err := p.client.ClaimProducer(p.ctx, &datav1.ClaimProducerRequest{
		Stream: p.stream, ProducerId: producerID, CreateIfMissing: true,
	})
	write(answer{Step: step, Epoch: response.GetEpoch()}.failed(err))
	return response.GetEpoch()
}

// append makes a call for each batch, up to the first that fails.
func (p producer) append(step string, epoch uint64, batches ...batch) {
	out := answer{Step: step}
	for _, each := range batches {
		response, err := p.client.Append(p.ctx, &datav1.AppendRequest{
			Stream:      p.stream,
			Producer:    &datav1.Producer{Id: producerID, Epoch: epoch},
			ProducerSeq: &each.seq,
			Records:     each.records(),
		})
		if err != nil {
			out = out.failed(err)
			break
		}
		out.Acks = append(out.Acks, ack{response.FirstSeq, response.NextSeq, response.Duplicate})
	}
	write(out)
}

// upload sends all batches on one call.
func (p producer) upload(step string, epoch uint64, batches ...batch) {
	requests := []*datav1.UploadRequest{{Message: &datav1.UploadRequest_Open_{
		Open: &datav1.UploadRequest_Open{Stream: p.stream, Producer: &datav1.Producer{Id: producerID, Epoch: epoch}},
	}}}
	for _, each := range batches {
		requests = append(requests, &datav1.UploadRequest{Message: &datav1.UploadRequest_Append{Append: each.message()}})
	}
	response, err := p.client.Upload(p.ctx, requests...)
	out := answer{Step: step}.failed(err)
	if err == nil {
		out.Summary = &summary{response.FirstSeq, response.NextSeq, response.Records, response.DuplicateBatches}
	}
	write(out)
}

// exchange sends all batches on one call before it takes the first ack.
func (p producer) exchange(step string, epoch uint64, batches ...batch) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	out := answer{Step: step}
	write(out.failed(func() error {
		call, err := p.client.Exchange(ctx)
		if err != nil {
			return err
		}
		if err := call.Send(&datav1.ExchangeRequest{Message: &datav1.ExchangeRequest_Open_{
			Open: &datav1.ExchangeRequest_Open{Stream: p.stream, Producer: &datav1.Producer{Id: producerID, Epoch: epoch}},
		}}); err != nil {
			return err
		}
		for _, each := range batches {
			request := &datav1.ExchangeRequest{Message: &datav1.ExchangeRequest_Append{Append: each.message()}}
			if err := call.Send(request); err != nil {
				return err
			}
		}
		if err := call.CloseSend(); err != nil {
			return err
		}
		for {
			response, err := call.Receive()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if opened := response.GetOpened(); opened != nil {
				out.Next = opened.NextProducerSeq
			}
			if got := response.GetAck(); got != nil {
				out.Acks = append(out.Acks, ack{got.FirstSeq, got.NextSeq, got.Duplicate})
			}
		}
	}()))
}

func (p producer) read() {
	out := answer{Step: "read"}
	err := p.client.Read(p.ctx, &datav1.ReadRequest{Stream: p.stream}, func(response *datav1.ReadResponse) bool {
		for _, record := range response.GetBatch().GetRecords() {
			out.Records = append(out.Records, string(record.Data))
		}
		return true
	})
	write(out.failed(err))
}

func (b batch) records() []*datav1.Record {
	result := make([]*datav1.Record, len(b.texts))
	for i, text := range b.texts {
		result[i] = &datav1.Record{Data: []byte(text), Headers: map[string]string{}}
		for j := range headers {
			result[i].Headers[fmt.Sprintf("header-%d", j)] = text
		}
	}
	return result
}

func (b batch) message() *datav1.AppendBatch {
	return &datav1.AppendBatch{ProducerSeq: &b.seq, Records: b.records()}
}

// encodings returns how many different bytes the batch has when it is encoded
// as often as it is sent again: Go's maps have no order.
func encodings(b batch) int {
	var all [][]byte
	for range repeats {
		encoded, err := proto.Marshal(b.message())
		if err != nil {
			log.Fatal(err)
		}
		known := false
		for _, other := range all {
			known = known || bytes.Equal(encoded, other)
		}
		if !known {
			all = append(all, encoded)
		}
	}
	return len(all)
}

func (a answer) failed(err error) answer {
	var failure *dataclient.Error
	if !errors.As(err, &failure) {
		if err != nil {
			a.Code = err.Error()
		}
		return a
	}
	a.Code, a.Reason = failure.Code, strings.TrimPrefix(failure.Reason().String(), "REASON_")
	if failure.Detail != nil {
		a.Next, a.CurrentEpoch = failure.Detail.NextProducerSeq, failure.Detail.ProducerEpoch
	}
	return a
}

func write(out answer) {
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		log.Fatal(err)
	}
}
