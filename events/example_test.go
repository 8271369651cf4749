// How another program reads the log.

package events_test

import (
	"errors"
	"fmt"
	"os"

	"github.com/myspinbot/myspinbot/events"
)

// A record's value is one flat JSON document; its data has the type that the
// catalogue gives it.
func ExampleDecode() {
	value, err := os.ReadFile("testdata/job.failed.v1.json") // in place of a record of jobs.events
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := events.Decode(value)
	if err != nil {
		fmt.Println(err)
		return
	}
	if d, ok := m.Data.(events.JobFailed); ok {
		fmt.Println(m.Type(), "version", m.Version, "at stage", m.Stage, "class", m.ErrorClass, "said:", d.Message)
	}
	// Output: job.failed version 3 at stage tts class oom said: text
}

// A record of a newer program stops the reader with a sentence: it never skips.
func ExampleDecode_newer() {
	_, err := events.Decode([]byte(`{"event_id":"e","event_type":"job.failed","schema_version":7,"aggregate_id":"j","data":{}}`))
	fmt.Println(errors.Is(err, events.ErrNewerVersion))
	fmt.Println(err)
	// Output:
	// true
	// record has a newer schema version than this program reads: job.failed version 7, this program reads up to 1
}

// A fold keeps the chain of every stream and applies only what continues it.
func ExampleChain() {
	var chain events.Chain
	for _, m := range []events.Message{
		{ID: "a", Version: 1, AggregateType: events.AggregateJob, AggregateID: "j"},
		{ID: "a", Version: 1, AggregateType: events.AggregateJob, AggregateID: "j"}, // delivered twice
		{ID: "b", Version: 2, PrevID: "a", AggregateType: events.AggregateJob, AggregateID: "j"},
		{ID: "d", Version: 4, PrevID: "c", AggregateType: events.AggregateJob, AggregateID: "j"}, // a hole
	} {
		if chain.Seen(m) {
			fmt.Println("seen", m.ID)
			continue
		}
		if err := chain.Check(m); err != nil {
			fmt.Println(err)
			continue
		}
		chain = chain.Next(m)
		fmt.Println("applied", m.ID)
	}
	// Output:
	// applied a
	// seen a
	// applied b
	// fact does not continue the chain: job j has version 4 after "c", the fold stands at version 2 after "b"
}
