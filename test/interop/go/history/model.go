package history

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// state is that of one stream. It is never changed, so that states share their
// records.
type state struct {
	exists, sealed bool
	// uid is empty until an answer has told it.
	uid string
	// last is the newest record; nil if there is none.
	last *record
}

// record is one record, and all before it.
type record struct {
	before *record
	data   string
	// nextSeq is the seq after this record.
	nextSeq uint64
	// digest is of this record and all before it.
	digest [sha256.Size]byte
}

func (s state) tail() uint64 {
	if s.last == nil {
		return 0
	}
	return s.last.nextSeq
}

func (s state) with(data string) state {
	var before [sha256.Size]byte
	if s.last != nil {
		before = s.last.digest
	}
	digest := sha256.Sum256(append(before[:], data...))
	s.last = &record{before: s.last, data: data, nextSeq: s.tail() + 1, digest: digest}
	return s
}

// records returns what the stream holds from a seq on, up to another.
func (s state) records(from, to uint64) []string {
	found := make([]string, 0, to-from)
	for record := s.last; record != nil && record.nextSeq > from; record = record.before {
		if record.nextSeq <= to {
			found = append(found, record.data)
		}
	}
	slices.Reverse(found)
	return found
}

func (s state) equal(other state) bool {
	return s.exists == other.exists && s.sealed == other.sealed && s.uid == other.uid && s.hash() == other.hash() &&
		(s.last == nil) == (other.last == nil) && (s.last == nil || s.last.digest == other.last.digest)
}

func (s state) hash() uint64 {
	if s.last == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(s.last.digest[:])
}

// Model is the sequential specification of DataService for one stream: as the
// comments of data.proto have it.
var Model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(before, input, _ any) (bool, any) {
		return step(before.(state), input.(*Operation))
	},
	Equal: func(a, b any) bool { return a.(state).equal(b.(state)) },
	Hash:  func(s any) uint64 { return s.(state).hash() },
	DescribeOperation: func(input, _ any) string {
		return input.(*Operation).String()
	},
	DescribeState: func(s any) string { return s.(state).String() },
	DescribeOperationMetadata: func(metadata any) string {
		return fmt.Sprint(metadata)
	},
}

func (s state) String() string {
	if !s.exists {
		return "no stream"
	}
	text := fmt.Sprintf("[%s]", strings.Join(s.records(0, s.tail()), " "))
	if s.sealed {
		text += " sealed"
	}
	return text
}

// step tells whether the operation can have its outcome in this state, and
// returns the state after it. An operation whose outcome is unknown has the
// effect that it has in this state, which may be none.
func step(before state, o *Operation) (bool, state) {
	if o.Kind == Read {
		return canRead(before, o), before
	}
	if o.Outcome == Replaced {
		// A call found another stream than the one that it began with: in between there was none.
		return o.Kind == Append && !before.exists, before
	}
	answer, after := execute(before, o)
	if o.Outcome == Unknown {
		return true, after
	}
	if o.UID != "" {
		if after.uid != "" && after.uid != o.UID {
			return false, before
		}
		after.uid = o.UID
	}
	same := o.Outcome == answer.Outcome && o.Tail == answer.Tail &&
		o.FirstSeq == answer.FirstSeq && o.IsSealed == answer.IsSealed
	return same, after
}

// execute returns what the operation answers in this state, and the state after it.
func execute(before state, o *Operation) (answer Operation, after state) {
	refused := func(outcome Outcome, tail uint64) (Operation, state) {
		return Operation{Outcome: outcome, Tail: tail}, before
	}
	switch {
	case o.Kind == Create && before.exists:
		return refused(Exists, 0)
	case o.Kind == Create:
		return Operation{Outcome: OK}, state{exists: true}
	}
	after = before
	if !before.exists {
		if !o.CreateIfMissing {
			return refused(NotFound, 0)
		}
		if o.Kind == Open && o.ExpectedSeq != nil && *o.ExpectedSeq != 0 {
			// The first append would be refused: no stream is made for it.
			return refused(Mismatch, 0)
		}
		after = state{exists: true}
	}
	tail := after.tail()
	switch o.Kind {
	case Get, Open:
		return Operation{Outcome: OK, Tail: tail, IsSealed: o.Kind == Get && after.sealed}, after
	case Delete:
		return Operation{Outcome: OK}, state{}
	case Append:
		if after.sealed {
			return refused(Sealed, tail)
		}
	}
	if o.ExpectedSeq != nil && *o.ExpectedSeq != tail {
		return refused(Mismatch, tail)
	}
	for _, data := range o.Records {
		after = after.with(data)
	}
	after.sealed = o.Kind == Seal || o.Seal
	answer = Operation{Outcome: OK, Tail: after.tail(), IsSealed: o.Kind == Seal}
	if o.Kind == Append {
		answer.FirstSeq = tail
	}
	return answer, after
}

// canRead tells whether a read can find in this state what it found. One that
// got as many records as it asked for says nothing of the tail and the seal.
func canRead(s state, o *Operation) bool {
	tail := s.tail()
	switch {
	case !s.exists:
		return o.Outcome == NotFound
	case o.From > tail:
		return o.Outcome == OutOfRange && o.Tail == tail
	case o.Outcome != OK:
		return false
	case o.Max > 0 && uint64(len(o.Found)) == o.Max:
		to := o.From + o.Max
		return to <= tail && slices.Equal(o.Found, s.records(o.From, to))
	default:
		return o.IsSealed == s.sealed && slices.Equal(o.Found, s.records(o.From, tail))
	}
}
