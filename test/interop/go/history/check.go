package history

import (
	"cmp"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Stream is the history of one stream, as Porcupine takes it.
type Stream struct {
	Name       string
	Operations []porcupine.Operation
	// Lost is how many answers were lost.
	Lost int
}

// Streams splits a history by stream, in the order of their names: a history is
// linearizable if and only if that of each stream is.
func Streams(operations []Operation) []Stream {
	byName := map[string][]Operation{}
	end := int64(0)
	for _, operation := range operations {
		byName[operation.Stream] = append(byName[operation.Stream], operation)
		end = max(end, operation.Call, operation.Return)
	}
	var streams []Stream
	for name, operations := range byName {
		stream := Stream{Name: name}
		slices.SortFunc(operations, func(a, b Operation) int { return cmp.Compare(a.Call, b.Call) })
		// Rows of the visualization: in each, one operation follows the other.
		var rows []int64
		for i := range operations {
			operation := &operations[i]
			returned := operation.Return
			if returned == 0 {
				// After everything else, where it has no effect that anybody sees.
				returned = end + 1
				stream.Lost++
			}
			row := slices.IndexFunc(rows, func(until int64) bool { return until < operation.Call })
			if row < 0 {
				row = len(rows)
				rows = append(rows, 0)
			}
			rows[row] = returned
			stream.Operations = append(stream.Operations, porcupine.Operation{
				ClientId: row,
				Input:    operation,
				Call:     operation.Call,
				Return:   returned,
				Metadata: operation.Client,
			})
		}
		streams = append(streams, stream)
	}
	slices.SortFunc(streams, func(a, b Stream) int { return cmp.Compare(a.Name, b.Name) })
	return streams
}

// Check looks for an order of the operations in which the model gives all their
// outcomes, for so long at most; then the result is porcupine.Unknown.
func (s Stream) Check(timeout time.Duration) (porcupine.CheckResult, porcupine.LinearizationInfo) {
	return porcupine.CheckOperationsVerbose(Model, s.Operations, timeout)
}
