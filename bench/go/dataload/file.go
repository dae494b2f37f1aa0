package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// fileStore is the least that durability costs: one goroutine writes whatever
// waits to one file, calls fdatasync, and acknowledges all of it. There is no
// server, no network and no index.
type fileStore struct {
	options Options
	file    *os.File
	mu      sync.Mutex
	wake    *sync.Cond
	// waiting is what the next write will take: bytes, and whom to tell.
	waiting  []byte
	appended []*fileAppender
	closed   bool
	ended    chan struct{}
}

// maxCommit bounds one write, in bytes.
const maxCommit = 8 << 20

func openFile(o Options) (backend, error) {
	file, err := os.Create(filepath.Join(o.Dir, "records"))
	if err != nil {
		return nil, err
	}
	s := &fileStore{options: o, file: file, ended: make(chan struct{})}
	s.wake = sync.NewCond(&s.mu)
	go s.commit()
	return s, nil
}

func (s *fileStore) commit() {
	defer close(s.ended)
	var spare []byte
	for {
		s.mu.Lock()
		for len(s.appended) == 0 && !s.closed {
			s.wake.Wait()
		}
		if s.closed {
			s.mu.Unlock()
			return
		}
		data, appended := s.waiting, s.appended
		s.waiting, s.appended = spare[:0], nil
		s.wake.Broadcast()
		s.mu.Unlock()
		_, err := s.file.Write(data)
		if err == nil {
			err = syscall.Fdatasync(int(s.file.Fd()))
		}
		for _, a := range appended {
			a.acks <- err
		}
		spare = data
	}
}

type fileAppender struct {
	store  *fileStore
	stream int
	record []byte
	acks   chan error
}

func (s *fileStore) appender(_ context.Context, stream int) (appender, error) {
	return &fileAppender{store: s, stream: stream, record: s.options.record(), acks: make(chan error, s.options.Pending+1)}, nil
}

func (a *fileAppender) append(records int) error {
	s := a.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) > maxCommit {
		s.wake.Wait()
	}
	for range records {
		s.waiting = binary.LittleEndian.AppendUint32(s.waiting, uint32(a.stream))
		s.waiting = binary.LittleEndian.AppendUint32(s.waiting, uint32(len(a.record)))
		s.waiting = append(s.waiting, a.record...)
	}
	s.appended = append(s.appended, a)
	s.wake.Broadcast()
	return nil
}

func (a *fileAppender) acked() error { return <-a.acks }

// finish tells the one who waits, behind everything that was appended.
func (a *fileAppender) finish() error {
	s := a.store
	s.mu.Lock()
	defer s.mu.Unlock()
	end := &fileAppender{acks: make(chan error, 1)}
	s.appended = append(s.appended, end)
	s.wake.Broadcast()
	go func() {
		<-end.acks
		a.acks <- io.EOF
	}()
	return nil
}

func (s *fileStore) replay(context.Context, int, int64, func(int64)) error {
	return errors.New("the file is only a limit for appending")
}

func (s *fileStore) close() {
	s.mu.Lock()
	s.closed = true
	s.wake.Broadcast()
	s.mu.Unlock()
	<-s.ended
	_ = s.file.Close()
}
