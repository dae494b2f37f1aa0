// Package history holds what clients of DataService asked and were answered,
// and the model that says which answers there can be.
package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is what an operation asks for.
type Kind string

// The kinds of operations. Open is the first step of an Exchange or Upload; its
// appends are operations of their own.
const (
	Create Kind = "create"
	Get    Kind = "get"
	Open   Kind = "open"
	Append Kind = "append"
	Read   Kind = "read"
	Seal   Kind = "seal"
	Delete Kind = "delete"
)

// Outcome is OK, Unknown, or the name of a DataError.Reason without its prefix.
type Outcome string

// The outcomes that the model knows.
const (
	OK         Outcome = "OK"
	Unknown    Outcome = "UNKNOWN"
	NotFound   Outcome = "STREAM_NOT_FOUND"
	Exists     Outcome = "STREAM_EXISTS"
	Sealed     Outcome = "STREAM_SEALED"
	Mismatch   Outcome = "SEQ_MISMATCH"
	OutOfRange Outcome = "POSITION_OUT_OF_RANGE"
	Replaced   Outcome = "STREAM_REPLACED"
)

// Operation is one operation on one stream.
type Operation struct {
	// Client says who called, and how.
	Client string `json:"client"`
	Stream string `json:"stream"`
	Kind   Kind   `json:"kind"`
	// Call and Return are readings of the clock, see Now. A Return of 0 is an
	// answer that was lost: the operation may take effect at any time after
	// Call, or never.
	Call   int64 `json:"call"`
	Return int64 `json:"return,omitempty"`

	// What was asked. Records are those of an append.
	Records         []string `json:"records,omitempty"`
	CreateIfMissing bool     `json:"createIfMissing,omitempty"`
	ExpectedSeq     *uint64  `json:"expectedSeq,omitempty"`
	// Seal is whether an append seals the stream.
	Seal bool `json:"seal,omitempty"`
	// From is where a read begins; Max is how many records it asks for, or 0 for all.
	From uint64 `json:"from,omitempty"`
	Max  uint64 `json:"max,omitempty"`

	// What was answered.
	Outcome Outcome `json:"outcome"`
	// Tail is the tail as the answer has it: after the append, or as the stream was described.
	Tail uint64 `json:"tail,omitempty"`
	// FirstSeq is where an append was stored.
	FirstSeq uint64 `json:"firstSeq,omitempty"`
	// Found is what a read returned.
	Found    []string `json:"found,omitempty"`
	IsSealed bool     `json:"isSealed,omitempty"`
	// UID is the identity of the stream, where the answer has it.
	UID string `json:"uid,omitempty"`
}

// Now returns nanoseconds of the machine's monotonic clock, which all processes share.
func Now() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return now.Nano()
}

// String describes the operation for people.
func (o *Operation) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s(", o.Kind)
	switch o.Kind {
	case Append:
		fmt.Fprintf(&text, "%s", strings.Join(o.Records, " "))
		if o.Seal {
			text.WriteString(", seal")
		}
	case Read:
		fmt.Fprintf(&text, "from %d", o.From)
		if o.Max > 0 {
			fmt.Fprintf(&text, ", max %d", o.Max)
		}
	}
	if o.CreateIfMissing {
		text.WriteString(", create_if_missing")
	}
	if o.ExpectedSeq != nil {
		fmt.Fprintf(&text, ", expected_seq %d", *o.ExpectedSeq)
	}
	fmt.Fprintf(&text, ") -> %s", o.Outcome)
	if o.Outcome == Unknown {
		return text.String()
	}
	switch {
	case o.Kind == Read && o.Outcome == OK:
		fmt.Fprintf(&text, " %v", o.Found)
	case o.Kind == Append && o.Outcome == OK:
		fmt.Fprintf(&text, " [%d, %d)", o.FirstSeq, o.Tail)
	case o.Outcome != NotFound && o.Outcome != Exists && o.Kind != Create && o.Kind != Delete:
		fmt.Fprintf(&text, " tail %d", o.Tail)
	}
	if o.IsSealed {
		text.WriteString(", sealed")
	}
	return text.String()
}

// ReadFile reads operations, one a line of JSON. A last line that is not whole
// is an error: a client that was killed has forgotten what it had asked.
func ReadFile(name string) ([]Operation, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var operations []Operation
	decoder := json.NewDecoder(bufio.NewReader(file))
	for {
		var operation Operation
		if err := decoder.Decode(&operation); errors.Is(err, io.EOF) {
			return operations, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		operations = append(operations, operation)
	}
}
