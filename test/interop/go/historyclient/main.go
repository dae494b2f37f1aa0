// Command historyclient calls DataService from many connections at once, at
// random, and writes what it asked and was answered to a file, as operations of
// package history. It writes how many they are to its standard output, as they
// become more. A line on its standard input lets it go on to other streams; at
// the end of its standard input it reads what there is, and ends.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"sluice/interop/dataclient"
	"sluice/interop/history"
)

// progressEvery is after how many operations their number is told.
const progressEvery = 50

func main() {
	log.SetFlags(0)
	name := flag.String("name", "client", "name of this process, unique in a history")
	protocols := flag.String("protocols", "connect,connect-http1,grpc-web,connect-grpc,grpc", "of the workers, in turn")
	workers := flag.Int("workers", 5, "how many call at once, each on connections of its own")
	streams := flag.Int("streams", 3, "how many streams they share")
	seed := flag.Uint64("seed", 1, "of what is asked")
	out := flag.String("out", "", "file for the history")
	flag.Parse()
	if flag.NArg() != 1 || *out == "" {
		log.Fatal("usage: historyclient -out FILE [-name NAME] [-protocols LIST] [-workers N] [-streams N] [-seed N] HOST:PORT")
	}
	recorder, err := newRecorder(*out)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var generation atomic.Int64
	choose := strings.Split(*protocols, ",")
	var working sync.WaitGroup
	for i := range *workers {
		protocol := dataclient.Protocol(choose[i%len(choose)])
		client, err := dataclient.New(protocol, flag.Arg(0))
		if err != nil {
			log.Fatal(err)
		}
		worker := &worker{
			name:       fmt.Sprintf("%s-%d %s", *name, i, protocol),
			client:     client,
			duplex:     protocol.Duplex(),
			random:     rand.New(rand.NewPCG(*seed, uint64(i))),
			recorder:   recorder,
			streams:    *streams,
			generation: &generation,
			tails:      map[string]uint64{},
		}
		working.Go(func() {
			defer client.Close()
			for ctx.Err() == nil {
				worker.act()
			}
			worker.finish()
		})
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		generation.Add(1)
	}
	stop()
	working.Wait()
	if err := recorder.close(); err != nil {
		log.Fatal(err)
	}
}

// recorder writes operations to a file.
type recorder struct {
	mutex   sync.Mutex
	file    *os.File
	buffer  *bufio.Writer
	encoder *json.Encoder
	count   int
}

func newRecorder(name string) (*recorder, error) {
	file, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	buffer := bufio.NewWriter(file)
	return &recorder{file: file, buffer: buffer, encoder: json.NewEncoder(buffer)}, nil
}

func (r *recorder) add(operation history.Operation) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if err := r.encoder.Encode(operation); err != nil {
		log.Fatal(err)
	}
	r.count++
	if r.count%progressEvery == 0 {
		fmt.Println(r.count)
	}
}

func (r *recorder) close() error {
	if err := r.buffer.Flush(); err != nil {
		return err
	}
	return r.file.Close()
}
