package history

import (
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"
)

// explainedOperations is how many operations of the longest order are told, from its end.
const explainedOperations = 5

// Explain describes where the longest order that Porcupine found ends, and the
// operations that had to come next: those that began before the first of them returned.
func (s Stream) Explain(info porcupine.LinearizationInfo) string {
	var longest []porcupine.Operation
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, order := range partition {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	var text strings.Builder
	after := state{}
	placed := map[*Operation]bool{}
	for i, each := range longest {
		operation := each.Input.(*Operation)
		placed[operation] = true
		_, after = step(after, operation)
		if i >= len(longest)-explainedOperations {
			fmt.Fprintf(&text, "  %s: %s\n", operation.Client, operation)
		}
	}
	fmt.Fprintf(&text, "then the stream would be: %s\nand none of these can be next:\n", after)
	until := int64(0)
	for _, each := range s.Operations {
		if !placed[each.Input.(*Operation)] && (until == 0 || each.Return < until) {
			until = each.Return
		}
	}
	for _, each := range s.Operations {
		if operation := each.Input.(*Operation); !placed[operation] && each.Call <= until {
			fmt.Fprintf(&text, "  %s: %s\n", operation.Client, operation)
		}
	}
	return text.String()
}
