// Command historycheck checks with Porcupine whether the histories in some files,
// taken together, are linearizable, and prints the result as one line of JSON.
// If they are not, it writes Porcupine's visualization of the stream that shows
// it to a file of the directory for temporary files.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
	"sluice/interop/history"
)

// result is what was found.
type result struct {
	// Result is "Ok", "Illegal", or "Unknown" if the time did not suffice.
	Result     porcupine.CheckResult `json:"result"`
	Streams    int                   `json:"streams"`
	Operations int                   `json:"operations"`
	// Lost is how many answers were lost.
	Lost int `json:"lost"`
	// Outcomes is how many operations there are of each kind and outcome.
	Outcomes map[string]int `json:"outcomes"`
	// Stream is the first one that is not linearizable. Explanation says why, and
	// Visualization is a file.
	Stream        string `json:"stream,omitempty"`
	Explanation   string `json:"explanation,omitempty"`
	Visualization string `json:"visualization,omitempty"`
}

func main() {
	log.SetFlags(0)
	timeout := flag.Duration("timeout", time.Minute, "for each stream")
	flag.Parse()
	var operations []history.Operation
	for _, name := range flag.Args() {
		read, err := history.ReadFile(name)
		if err != nil {
			log.Fatal(err)
		}
		operations = append(operations, read...)
	}
	found, err := check(operations, *timeout)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
}

func check(operations []history.Operation, timeout time.Duration) (*result, error) {
	found := &result{Result: porcupine.Ok, Operations: len(operations), Outcomes: map[string]int{}}
	for _, operation := range operations {
		found.Outcomes[string(operation.Kind)+" "+string(operation.Outcome)]++
	}
	for _, stream := range history.Streams(operations) {
		found.Streams++
		found.Lost += stream.Lost
		outcome, info := stream.Check(timeout)
		if outcome == porcupine.Ok || found.Result == porcupine.Illegal {
			continue
		}
		found.Result, found.Stream, found.Explanation = outcome, stream.Name, stream.Explain(info)
		file, err := os.CreateTemp("", "sluice-linearizability-*.html")
		if err != nil {
			return nil, err
		}
		found.Visualization = file.Name()
		if err := porcupine.Visualize(history.Model, info, file); err != nil {
			return nil, err
		}
		if err := file.Close(); err != nil {
			return nil, err
		}
	}
	return found, nil
}
