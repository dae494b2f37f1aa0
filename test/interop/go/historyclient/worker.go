package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"sluice/interop/dataclient"
	datav1 "sluice/interop/gen/data/v1"
	"sluice/interop/history"
)

// callTimeout is after which a call hangs: the server is never down for so long.
const callTimeout = time.Minute

// maxBatch is how many records a batch has at most.
const maxBatch = 3

// worker calls on one connection, one operation after the other.
type worker struct {
	name       string
	client     dataclient.Client
	duplex     bool
	random     *rand.Rand
	recorder   *recorder
	streams    int
	generation *atomic.Int64
	// tails has the last tail that this worker saw, by stream.
	tails map[string]uint64
	// records is how many it has made, so that each is unique.
	records int
	// unwatch ends the read that follows a stream.
	unwatch context.CancelFunc
}

// act does one operation, chosen at random, or one call of several.
func (w *worker) act() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream := w.stream(w.random.IntN(w.streams))
	switch chosen := w.random.IntN(100); {
	case chosen < 35:
		w.append(ctx, stream)
	case chosen < 42 && w.duplex:
		w.exchange(ctx, stream)
	case chosen < 47:
		w.upload(ctx, stream)
	case chosen < 65:
		w.read(ctx, w.someRead(stream))
	case chosen < 67:
		w.watch(stream)
	case chosen < 82:
		w.get(ctx, stream)
	case chosen < 90:
		w.create(ctx, stream)
	case chosen < 94:
		w.seal(ctx, stream)
	default:
		w.delete(ctx, stream)
	}
}

// finish looks at what there is in the end.
func (w *worker) finish() {
	if w.unwatch != nil {
		w.unwatch()
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	for i := range w.streams {
		w.get(ctx, w.stream(i))
		w.read(ctx, history.Operation{Stream: w.stream(i)})
	}
}

func (w *worker) stream(i int) string {
	return fmt.Sprintf("linearizability/%d/%d", w.generation.Load(), i)
}

func (w *worker) chance(percent int) bool { return w.random.IntN(100) < percent }

// someRecords returns records that nobody else makes.
func (w *worker) someRecords() []string {
	records := make([]string, 1+w.random.IntN(maxBatch))
	for i := range records {
		records[i] = fmt.Sprintf("%s/%d", w.name, w.records)
		w.records++
	}
	return records
}

// someSeq returns a seq that is often the tail.
func (w *worker) someSeq(stream string) *uint64 {
	seq := w.tails[stream]
	if w.chance(20) {
		seq = w.random.Uint64N(seq + 4)
	}
	return &seq
}

// someAppend returns an append to do.
func (w *worker) someAppend(stream string) history.Operation {
	o := history.Operation{
		Kind: history.Append, Stream: stream, Records: w.someRecords(), CreateIfMissing: w.chance(50),
	}
	if w.chance(50) {
		o.ExpectedSeq = w.someSeq(stream)
	}
	return o
}

func (w *worker) someRead(stream string) history.Operation {
	o := history.Operation{Stream: stream}
	if w.chance(60) {
		o.From = *w.someSeq(stream) / uint64(1+w.random.IntN(2))
	}
	if w.chance(30) {
		o.Max = 1 + w.random.Uint64N(5)
	}
	return o
}

func (w *worker) create(ctx context.Context, stream string) {
	o := history.Operation{Kind: history.Create, Stream: stream}
	w.record(o, func(o *history.Operation) error {
		response, err := w.client.CreateStream(ctx, &datav1.CreateStreamRequest{Name: stream})
		o.UID = response.GetStream().GetUid()
		return err
	})
}

func (w *worker) get(ctx context.Context, stream string) {
	o := history.Operation{Kind: history.Get, Stream: stream}
	w.record(o, func(o *history.Operation) error {
		response, err := w.client.GetStream(ctx, &datav1.GetStreamRequest{Name: stream})
		o.Tail, o.IsSealed = response.GetStream().GetTail(), response.GetStream().GetSealed()
		o.UID = response.GetStream().GetUid()
		return err
	})
}

func (w *worker) delete(ctx context.Context, stream string) {
	o := history.Operation{Kind: history.Delete, Stream: stream}
	w.record(o, func(o *history.Operation) error {
		_, err := w.client.DeleteStream(ctx, &datav1.DeleteStreamRequest{Name: stream})
		return err
	})
}

func (w *worker) seal(ctx context.Context, stream string) {
	o := history.Operation{Kind: history.Seal, Stream: stream}
	if w.chance(50) {
		o.ExpectedSeq = w.someSeq(stream)
	}
	w.record(o, func(o *history.Operation) error {
		request := &datav1.SealStreamRequest{Name: stream, ExpectedSeq: o.ExpectedSeq}
		response, err := w.client.SealStream(ctx, request)
		o.Tail, o.IsSealed = response.GetStream().GetTail(), response.GetStream().GetSealed()
		o.UID = response.GetStream().GetUid()
		return err
	})
}

func (w *worker) append(ctx context.Context, stream string) {
	o := w.someAppend(stream)
	o.Seal = w.chance(3)
	w.record(o, func(o *history.Operation) error {
		response, err := w.client.Append(ctx, &datav1.AppendRequest{
			Stream:          stream,
			Records:         messages(o.Records),
			CreateIfMissing: o.CreateIfMissing,
			ExpectedSeq:     o.ExpectedSeq,
			Seal:            o.Seal,
		})
		o.FirstSeq, o.Tail, o.UID = response.GetFirstSeq(), response.GetNextSeq(), response.GetStreamUid()
		return err
	})
}

// upload appends one batch by an Upload. Opening may make the stream: an
// operation of its own, of which only the time is known.
func (w *worker) upload(ctx context.Context, stream string) {
	o := w.someAppend(stream)
	if o.ExpectedSeq != nil && *o.ExpectedSeq != 0 {
		// No stream is made for it, and the answer does not tell which of the two steps has refused it.
		o.CreateIfMissing = false
	}
	open := history.Operation{Kind: history.Open, Stream: stream, CreateIfMissing: o.CreateIfMissing}
	o.CreateIfMissing = false
	opened := w.begin(open)
	w.record(o, func(o *history.Operation) error {
		response, err := w.client.Upload(
			ctx,
			&datav1.UploadRequest{Message: &datav1.UploadRequest_Open_{Open: &datav1.UploadRequest_Open{
				Stream: stream, CreateIfMissing: open.CreateIfMissing, ExpectedSeq: o.ExpectedSeq,
			}}},
			&datav1.UploadRequest{Message: &datav1.UploadRequest_Append{
				Append: &datav1.AppendBatch{Records: messages(o.Records)},
			}},
		)
		o.FirstSeq, o.Tail, o.UID = response.GetFirstSeq(), response.GetNextSeq(), response.GetStreamUid()
		if open.CreateIfMissing {
			opened.Outcome = history.Unknown
			if !isLost(err) {
				opened.Return = history.Now()
			}
			w.recorder.add(opened)
		}
		return err
	})
}

// exchange appends some batches by an Exchange, without waiting for the acks in
// between.
func (w *worker) exchange(ctx context.Context, stream string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	open := history.Operation{Kind: history.Open, Stream: stream, CreateIfMissing: w.chance(50)}
	var expected *uint64
	if w.chance(50) {
		expected = w.someSeq(stream)
	}
	if expected != nil {
		open.ExpectedSeq = new(*expected)
	}
	var call dataclient.Exchange
	begun := history.Now()
	opened := w.record(open, func(o *history.Operation) (err error) {
		if call, err = w.client.Exchange(ctx); err != nil {
			return err
		}
		err = call.Send(&datav1.ExchangeRequest{Message: &datav1.ExchangeRequest_Open_{
			Open: &datav1.ExchangeRequest_Open{
				Stream: stream, CreateIfMissing: open.CreateIfMissing, ExpectedSeq: expected,
			},
		}})
		if err != nil {
			return err
		}
		response, err := call.Receive()
		o.Tail, o.UID = response.GetOpened().GetTail(), response.GetOpened().GetStreamUid()
		return err
	})
	if !opened {
		return
	}
	appends := make([]history.Operation, 1+w.random.IntN(3))
	for i := range appends {
		appends[i] = w.begin(history.Operation{Kind: history.Append, Stream: stream, Records: w.someRecords()})
		if expected != nil {
			// Each batch after the first must come right behind the one before.
			appends[i].ExpectedSeq = new(*expected)
			*expected += uint64(len(appends[i].Records))
		}
		// Why it fails is received below.
		_ = call.Send(&datav1.ExchangeRequest{Message: &datav1.ExchangeRequest_Append{
			Append: &datav1.AppendBatch{Records: messages(appends[i].Records)},
		}})
	}
	_ = call.CloseSend()
	for i, o := range appends {
		response, err := call.Receive()
		o.FirstSeq, o.Tail = response.GetAck().GetFirstSeq(), response.GetAck().GetNextSeq()
		if isLost(err) {
			for _, lost := range appends[i:] {
				w.end(lost, err)
			}
			return
		}
		if err != nil {
			// The stream that was opened may have been gone at any time since, though there may be another by now.
			if reason := reasonOf(err); reason == history.NotFound || reason == history.Replaced {
				o.Call = begun
			}
			// What follows a batch that is refused must not be stored: the model, which is not told of it, finds it if it is.
			w.end(o, err)
			return
		}
		w.end(o, nil)
	}
}

func (w *worker) read(ctx context.Context, o history.Operation) {
	o.Kind = history.Read
	// A read that follows knows as well when it has seen everything.
	follow := o.Max == 0 && w.chance(30)
	w.record(o, func(o *history.Operation) error {
		request := &datav1.ReadRequest{
			Stream: o.Stream, From: &datav1.ReadRequest_Seq{Seq: o.From}, MaxRecords: o.Max, Follow: follow,
		}
		next := o.From
		err := w.client.Read(ctx, request, func(response *datav1.ReadResponse) bool {
			if batch := response.GetBatch(); batch != nil {
				if batch.FirstSeq != next {
					log.Fatalf("a read of %s skips from seq %d to %d", o.Stream, next, batch.FirstSeq)
				}
				next += uint64(len(batch.Records))
				for _, record := range batch.Records {
					o.Found = append(o.Found, string(record.Data))
				}
			}
			o.IsSealed = response.GetSealed() != nil
			return response.GetCaughtUp() == nil
		})
		if err == nil && o.Max == 0 {
			w.tails[o.Stream] = next
		}
		return err
	})
}

// watch follows a stream until the next watch: the server answers other calls
// differently while somebody does.
func (w *worker) watch(stream string) {
	if w.unwatch != nil {
		w.unwatch()
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.unwatch = cancel
	go func() {
		// It ends with the stream or the server, too.
		_ = w.client.Read(ctx, &datav1.ReadRequest{Stream: stream, Follow: true}, func(*datav1.ReadResponse) bool { return true })
	}()
}

// record does an operation, and tells whether it succeeded.
func (w *worker) record(o history.Operation, do func(*history.Operation) error) bool {
	o = w.begin(o)
	err := do(&o)
	w.end(o, err)
	return err == nil
}

func (w *worker) begin(o history.Operation) history.Operation {
	o.Client = w.name
	o.Call = history.Now()
	return o
}

// end records an operation that has been answered, or whose answer is lost.
func (w *worker) end(o history.Operation, err error) {
	o.Return = history.Now()
	switch failure := asError(err); {
	case err == nil:
		o.Outcome = history.OK
		if o.Kind != history.Create && o.Kind != history.Delete && o.Kind != history.Read {
			w.tails[o.Stream] = o.Tail
		}
	case isLost(err):
		if failure.Code == "deadline_exceeded" {
			log.Fatalf("%s hangs: %s", w.name, o.String())
		}
		if o.Kind == history.Get || o.Kind == history.Read {
			return
		}
		o.Outcome, o.Return = history.Unknown, 0
		o.Tail, o.FirstSeq, o.IsSealed, o.UID = 0, 0, false, ""
	case failure.Detail == nil:
		log.Fatalf("%s: %s failed with what is no answer: %v", w.name, o.String(), err)
	default:
		o.Outcome = reasonOf(err)
		o.Tail = failure.Detail.GetTail()
		o.Found, o.IsSealed, o.UID = nil, false, ""
		if failure.Detail.Tail != nil {
			w.tails[o.Stream] = o.Tail
		}
	}
	w.recorder.add(o)
}

func messages(records []string) []*datav1.Record {
	result := make([]*datav1.Record, len(records))
	for i, data := range records {
		result[i] = &datav1.Record{Data: []byte(data)}
	}
	return result
}

// asError returns what failed; the end of a call before its answer counts as lost.
func asError(err error) *dataclient.Error {
	var failure *dataclient.Error
	if err == nil || errors.As(err, &failure) {
		return failure
	}
	return &dataclient.Error{Code: "unknown", Message: err.Error()}
}

func isLost(err error) bool { return err != nil && asError(err).IsLost() }

func reasonOf(err error) history.Outcome {
	return history.Outcome(strings.TrimPrefix(asError(err).Reason().String(), "REASON_"))
}
