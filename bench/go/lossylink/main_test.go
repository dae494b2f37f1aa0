package main

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is a link to the one under test; like a TUN device, each read gives one packet.
func pair(t *testing.T) (near, far *os.File) {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, far = os.NewFile(uintptr(ends[0]), "near"), os.NewFile(uintptr(ends[1]), "far")
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	return near, far
}

func TestLosesItsPartAndKeepsTheOthersInOrderAndLate(t *testing.T) {
	const packets = 5000
	const loss = 0.1
	const delay = 20 * time.Millisecond
	sender, in := pair(t)
	out, receiver := pair(t)
	var seen counts
	forward(in, out, delay, loss, rand.New(rand.NewPCG(1, 2)), &seen, make(chan error, 2))
	sent := make([]time.Time, packets)
	go func() {
		for i := range packets {
			sent[i] = time.Now()
			if _, err := sender.Write(binary.BigEndian.AppendUint32(nil, uint32(i))); err != nil {
				return
			}
		}
		// The last one may be lost: it is sent until one arrives.
		for {
			time.Sleep(time.Millisecond)
			if _, err := sender.Write(binary.BigEndian.AppendUint32(nil, packets)); err != nil {
				return
			}
		}
	}()
	if err := receiver.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	received, last := 0, -1
	for buffer := make([]byte, 4); ; received++ {
		if _, err := receiver.Read(buffer); err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		i := int(binary.BigEndian.Uint32(buffer))
		if i == packets {
			break
		}
		if i <= last {
			t.Fatalf("%d came behind %d", i, last)
		}
		if took := now.Sub(sent[i]); took < delay {
			t.Fatalf("%d took %v", i, took)
		}
		last = i
	}
	if lost := packets - received; lost < packets*loss*0.7 || lost > packets*loss*1.3 {
		t.Errorf("%d of %d packets were lost", lost, packets)
	}
}
