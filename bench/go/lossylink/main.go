// Command lossylink joins two network namespaces by a link that loses packets
// and holds the others up: what tc's netem does, for kernels without it. In each
// namespace is a TUN device, so that the kernel's own TCP and UDP are at both
// ends and each packet is lost by itself. The devices are gone when it ends.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// maxPacket is what IP can have.
const maxPacket = 65_535

// queued is how many packets may be under way in one direction; the next ones
// are lost, as in any queue that is full.
const queued = 10_000

type packet struct {
	data []byte
	due  time.Time
}

// counts are of both directions.
type counts struct {
	passed, lost, overflowed atomic.Int64
}

func main() {
	log.SetFlags(0)
	a := flag.String("a", "", "one network namespace, of /run/netns")
	b := flag.String("b", "", "the other one")
	device := flag.String("device", "lossy0", "name of the device in both")
	loss := flag.Float64("loss", 0.02, "part of the packets that is lost, in each direction")
	delay := flag.Duration("delay", 50*time.Millisecond, "how long the others take, in each direction")
	seed := flag.Uint64("seed", 1, "of what is lost")
	flag.Parse()
	one, err := openDevice(*a, *device)
	if err != nil {
		log.Fatal(err)
	}
	other, err := openDevice(*b, *device)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var seen counts
	failed := make(chan error, 4)
	forward(one, other, *delay, *loss, rand.New(rand.NewPCG(*seed, 0)), &seen, failed)
	forward(other, one, *delay, *loss, rand.New(rand.NewPCG(*seed, 1)), &seen, failed)
	fmt.Println("ready")
	select {
	case err := <-failed:
		log.Fatal(err)
	case <-ctx.Done():
	}
	fmt.Printf("%d packets passed, %d were lost, %d found the queue full\n",
		seen.passed.Load(), seen.lost.Load(), seen.overflowed.Load())
}

// forward keeps the order: each packet waits as long as the others.
func forward(from, to *os.File, delay time.Duration, loss float64, random *rand.Rand, seen *counts, failed chan<- error) {
	queue := make(chan packet, queued)
	go func() {
		buffer := make([]byte, maxPacket)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				failed <- fmt.Errorf("read: %w", err)
				return
			}
			if random.Float64() < loss {
				seen.lost.Add(1)
				continue
			}
			select {
			case queue <- packet{data: append([]byte(nil), buffer[:n]...), due: time.Now().Add(delay)}:
			default:
				seen.overflowed.Add(1)
			}
		}
	}()
	go func() {
		for p := range queue {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.data); err != nil {
				failed <- fmt.Errorf("write: %w", err)
				return
			}
			seen.passed.Add(1)
		}
	}()
}
