// Command uidclient makes each call that expects a stream's uid, first while the
// stream is there, then after it was deleted and made again. It prints what each
// was answered, a line of JSON for each step.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"sluice/interop/dataclient"
	datav1 "sluice/interop/gen/data/v1"
)

// answer is what came of one call.
type answer struct {
	Step string `json:"step"`
	// Uid is whose stream the call met, as the response or the error tells: first or second, or else itself.
	Uid string `json:"uid"`
	// Of a call that failed.
	Code   string `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
}

type caller struct {
	ctx    context.Context
	client dataclient.Client
	stream string
	// uids of the streams that had the name, in their order.
	uids []string
}

func main() {
	log.SetFlags(0)
	protocol := flag.String("protocol", "connect", "connect, connect-http1, grpc-web, connect-grpc or grpc")
	stream := flag.String("stream", "expected", "name of the stream, which must not exist")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: uidclient [-protocol NAME] [-stream NAME] HOST:PORT")
	}
	client, err := dataclient.New(dataclient.Protocol(*protocol), flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := caller{ctx, client, *stream, nil}
	duplex := dataclient.Protocol(*protocol).Duplex()
	c.create()
	c.all(duplex)
	if _, err := client.DeleteStream(ctx, &datav1.DeleteStreamRequest{Name: *stream}); err != nil {
		log.Fatal(err)
	}
	c.create()
	c.all(duplex)
}

// create makes the stream, with one record.
func (c *caller) create() {
	created, err := c.client.CreateStream(c.ctx, &datav1.CreateStreamRequest{Name: c.stream})
	if err != nil {
		log.Fatal(err)
	}
	c.uids = append(c.uids, created.Stream.Uid)
	if _, err := c.client.Append(c.ctx, &datav1.AppendRequest{Stream: c.stream, Records: records}); err != nil {
		log.Fatal(err)
	}
}

var records = []*datav1.Record{{Data: []byte("a")}}

// all makes each call, and expects the first stream.
func (c *caller) all(duplex bool) {
	uid := c.uids[0]
	appended, err := c.client.Append(c.ctx, &datav1.AppendRequest{Stream: c.stream, Records: records, ExpectedUid: uid})
	c.write("append", appended.GetStreamUid(), err)

	claimed, err := c.client.ClaimProducer(c.ctx, &datav1.ClaimProducerRequest{
		Stream: c.stream, ProducerId: "p", CreateIfMissing: true, ExpectedUid: uid,
	})
	c.write("claim", claimed.GetStreamUid(), err)

	uploaded, err := c.client.Upload(c.ctx,
		&datav1.UploadRequest{Message: &datav1.UploadRequest_Open_{
			Open: &datav1.UploadRequest_Open{Stream: c.stream, CreateIfMissing: true, ExpectedUid: uid},
		}},
		&datav1.UploadRequest{Message: &datav1.UploadRequest_Append{Append: &datav1.AppendBatch{Records: records}}},
	)
	c.write("upload", uploaded.GetStreamUid(), err)

	var met string
	err = c.client.Read(c.ctx, &datav1.ReadRequest{Stream: c.stream, ExpectedUid: uid},
		func(response *datav1.ReadResponse) bool {
			met += response.GetStreamUid()
			return true
		})
	c.write("read", met, err)

	if duplex {
		met, err := c.exchange(uid)
		c.write("exchange", met, err)
	}

	sealed, err := c.client.SealStream(c.ctx, &datav1.SealStreamRequest{Name: c.stream, ExpectedUid: uid})
	c.write("seal", sealed.GetStream().GetUid(), err)
}

func (c *caller) exchange(uid string) (string, error) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	call, err := c.client.Exchange(ctx)
	if err != nil {
		return "", err
	}
	if err := call.Send(&datav1.ExchangeRequest{Message: &datav1.ExchangeRequest_Open_{
		Open: &datav1.ExchangeRequest_Open{Stream: c.stream, CreateIfMissing: true, ExpectedUid: uid},
	}}); err != nil {
		return "", err
	}
	if err := call.CloseSend(); err != nil {
		return "", err
	}
	met := ""
	for {
		response, err := call.Receive()
		if errors.Is(err, io.EOF) {
			return met, nil
		}
		if err != nil {
			return "", err
		}
		met += response.GetOpened().GetStreamUid()
	}
}

func (c *caller) write(step, uid string, err error) {
	out := answer{Step: step, Uid: uid}
	var failure *dataclient.Error
	if errors.As(err, &failure) {
		out.Uid = failure.Detail.GetStreamUid()
		out.Code, out.Reason = failure.Code, strings.TrimPrefix(failure.Reason().String(), "REASON_")
	} else if err != nil {
		out.Code = err.Error()
	}
	for i, name := range []string{"first", "second"} {
		if i < len(c.uids) && out.Uid == c.uids[i] {
			out.Uid = name
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		log.Fatal(err)
	}
}
