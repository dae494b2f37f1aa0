package history

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

func seq(n uint64) *uint64 { return &n }

// at gives an operation its interval.
func at(call, returned int64, o Operation) Operation {
	o.Stream, o.Call, o.Return = "s", call, returned
	return o
}

func TestModel(t *testing.T) {
	made := at(1, 2, Operation{Kind: Create, Outcome: OK})
	a := at(3, 4, Operation{Kind: Append, Records: []string{"a"}, Outcome: OK, Tail: 1})
	lostB := at(5, 0, Operation{Kind: Append, Records: []string{"b"}, Outcome: Unknown})
	mismatch := func(call, returned int64, expected, tail uint64) Operation {
		return at(call, returned, Operation{
			Kind: Append, Records: []string{"x"}, ExpectedSeq: seq(expected), Outcome: Mismatch, Tail: tail,
		})
	}
	read := func(call, returned int64, found ...string) Operation {
		return at(call, returned, Operation{Kind: Read, Outcome: OK, Found: found})
	}
	for name, test := range map[string]struct {
		history []Operation
		want    porcupine.CheckResult
	}{
		"a read of what was acked": {[]Operation{made, a, read(5, 6, "a")}, porcupine.Ok},
		"a read that misses what was acked": {
			[]Operation{made, a, read(5, 6)}, porcupine.Illegal,
		},
		"a read of what nobody appended": {
			[]Operation{made, a, read(5, 6, "a", "x")}, porcupine.Illegal,
		},
		"records in an order other than that of their acks": {
			[]Operation{
				made, a, at(5, 6, Operation{Kind: Append, Records: []string{"b"}, Outcome: OK, FirstSeq: 1, Tail: 2}),
				read(7, 8, "b", "a"),
			},
			porcupine.Illegal,
		},
		"a batch that is torn": {
			[]Operation{
				made, at(3, 9, Operation{Kind: Append, Records: []string{"a", "b"}, Outcome: OK, Tail: 2}),
				read(4, 5, "a"),
			},
			porcupine.Illegal,
		},
		"two appends that got the same position": {
			[]Operation{made, a, at(3, 4, Operation{Kind: Append, Records: []string{"b"}, Outcome: OK, Tail: 1})},
			porcupine.Illegal,
		},
		"a lost append that is stored much later": {
			[]Operation{made, a, lostB, read(6, 7, "a"), read(8, 9, "a", "b")}, porcupine.Ok,
		},
		"a lost append that is never stored": {
			[]Operation{made, a, lostB, read(6, 7, "a"), mismatch(8, 9, 0, 1)}, porcupine.Ok,
		},
		"a lost append that was there and is gone": {
			[]Operation{made, a, lostB, read(6, 7, "a", "b"), read(8, 9, "a")}, porcupine.Illegal,
		},
		"a lost append that is there twice": {
			[]Operation{made, a, lostB, read(6, 7, "a", "b", "b")}, porcupine.Illegal,
		},
		"a refusal with a tail that was": {[]Operation{made, a, mismatch(5, 6, 0, 1)}, porcupine.Ok},
		"a refusal for what was on its way to the disk, and a read after it without": {
			[]Operation{
				made, at(3, 20, Operation{Kind: Append, Records: []string{"a"}, Outcome: OK, Tail: 1}),
				mismatch(4, 5, 0, 1), read(6, 7),
			},
			porcupine.Illegal,
		},
		"a refusal for what a kill took away": {
			[]Operation{
				made, at(3, 0, Operation{Kind: Append, Records: []string{"a"}, Outcome: Unknown}),
				mismatch(4, 5, 0, 1), read(9, 10),
			},
			porcupine.Illegal,
		},
		"a refusal with the tail that was expected": {[]Operation{made, a, mismatch(5, 6, 1, 1)}, porcupine.Illegal},
		"a refusal that stored its batch": {
			[]Operation{made, a, mismatch(5, 6, 0, 1), read(7, 8, "a", "x")}, porcupine.Illegal,
		},
		"a refused append that made the stream": {
			[]Operation{
				at(1, 2, Operation{
					Kind: Append, Records: []string{"a"}, CreateIfMissing: true, ExpectedSeq: seq(3), Outcome: Mismatch,
				}),
				at(3, 4, Operation{Kind: Get, Outcome: OK}),
			},
			porcupine.Illegal,
		},
		"an empty stream seen before the append that makes it": {
			[]Operation{
				at(1, 9, Operation{Kind: Append, Records: []string{"a"}, CreateIfMissing: true, Outcome: OK, Tail: 1}),
				at(2, 3, Operation{Kind: Get, Outcome: OK}),
			},
			porcupine.Illegal,
		},
		"not found by an append that makes streams": {
			[]Operation{
				made, at(3, 4, Operation{Kind: Append, Records: []string{"a"}, CreateIfMissing: true, Outcome: NotFound}),
				at(3, 4, Operation{Kind: Delete, Outcome: OK}),
			},
			porcupine.Illegal,
		},
		"an append after the seal": {
			[]Operation{
				made, at(3, 4, Operation{Kind: Seal, Outcome: OK, IsSealed: true}),
				at(5, 6, Operation{Kind: Append, Records: []string{"a"}, Outcome: OK, Tail: 1}),
			},
			porcupine.Illegal,
		},
		"a seal that a read after it does not see": {
			[]Operation{
				made, a, at(5, 6, Operation{Kind: Append, Seal: true, Outcome: OK, FirstSeq: 1, Tail: 1}), read(7, 8, "a"),
			},
			porcupine.Illegal,
		},
		"a seal, a refusal for it, and the end of a read": {
			[]Operation{
				made, at(3, 4, Operation{Kind: Seal, Outcome: OK, IsSealed: true}),
				at(5, 6, Operation{Kind: Append, Records: []string{"a"}, Outcome: Sealed}),
				at(7, 8, Operation{Kind: Read, Outcome: OK, IsSealed: true}),
			},
			porcupine.Ok,
		},
		"records that outlive their stream": {
			[]Operation{
				made, a, at(5, 6, Operation{Kind: Delete, Outcome: OK}), at(7, 8, Operation{Kind: Create, Outcome: OK}),
				read(9, 10, "a"),
			},
			porcupine.Illegal,
		},
		"a delete that did not happen": {
			[]Operation{made, at(5, 6, Operation{Kind: Delete, Outcome: OK}), at(7, 8, Operation{Kind: Get, Outcome: OK})},
			porcupine.Illegal,
		},
		"one identity of two streams": {
			[]Operation{
				at(1, 2, Operation{Kind: Create, Outcome: OK, UID: "u"}), at(3, 4, Operation{Kind: Get, Outcome: OK, UID: "u"}),
				at(5, 6, Operation{Kind: Delete, Outcome: OK}), at(7, 8, Operation{Kind: Create, Outcome: OK, UID: "v"}),
				at(9, 10, Operation{Kind: Get, Outcome: OK, UID: "u"}),
			},
			porcupine.Illegal,
		},
		"an identity that changes": {
			[]Operation{made, at(3, 4, Operation{Kind: Get, Outcome: OK, UID: "u"}), at(5, 6, Operation{Kind: Get, Outcome: OK, UID: "v"})},
			porcupine.Illegal,
		},
		"a stream that is replaced during a call": {
			[]Operation{
				made, at(3, 9, Operation{Kind: Append, Records: []string{"x"}, Outcome: Replaced}),
				at(4, 5, Operation{Kind: Delete, Outcome: OK}), at(6, 7, Operation{Kind: Create, Outcome: OK}),
			},
			porcupine.Ok,
		},
		"a stream that is said to be replaced, and is not": {
			[]Operation{made, at(3, 9, Operation{Kind: Append, Records: []string{"x"}, Outcome: Replaced})},
			porcupine.Illegal,
		},
		"a read of a part": {
			[]Operation{
				made, at(3, 4, Operation{Kind: Append, Records: []string{"a", "b", "c"}, Outcome: OK, Tail: 3}),
				at(5, 6, Operation{Kind: Read, From: 1, Max: 1, Outcome: OK, Found: []string{"b"}}),
				at(5, 6, Operation{Kind: Read, From: 2, Max: 9, Outcome: OK, Found: []string{"c"}}),
				at(5, 6, Operation{Kind: Read, From: 4, Outcome: OutOfRange, Tail: 3}),
			},
			porcupine.Ok,
		},
		"a part from another place": {
			[]Operation{
				made, at(3, 4, Operation{Kind: Append, Records: []string{"a", "b", "c"}, Outcome: OK, Tail: 3}),
				at(5, 6, Operation{Kind: Read, From: 1, Max: 1, Outcome: OK, Found: []string{"c"}}),
			},
			porcupine.Illegal,
		},
	} {
		t.Run(name, func(t *testing.T) {
			streams := Streams(test.history)
			if len(streams) != 1 {
				t.Fatalf("%d streams", len(streams))
			}
			if result, _ := streams[0].Check(time.Minute); result != test.want {
				t.Errorf("got %s, want %s", result, test.want)
			}
		})
	}
}

func TestStreamsAreCheckedApart(t *testing.T) {
	history := []Operation{
		{Stream: "b", Kind: Create, Call: 1, Return: 2, Outcome: OK},
		{Stream: "a", Kind: Create, Call: 1, Return: 2, Outcome: OK},
		{Stream: "b", Kind: Delete, Call: 3, Outcome: Unknown},
	}
	streams := Streams(history)
	if len(streams) != 2 || streams[0].Name != "a" || streams[1].Name != "b" || streams[1].Lost != 1 {
		t.Fatalf("got %+v", streams)
	}
	if returned := streams[1].Operations[1].Return; returned <= 3 {
		t.Errorf("a lost operation returns at %d, want after everything else", returned)
	}
}
