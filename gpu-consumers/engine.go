// The seam between the lanes and what runs on them.

// Package gpu runs the lanes: it accepts commands within a bound, runs one
// engine for each, and reports back to the log. One file per engine.
//
// What belongs here: lanes, slots, engines and the child processes they start.
// What may not: decisions about jobs (package aggregates), tables, HTTP. This
// package never imports handlers or projections; everything meets in cmd/myspinbot.
package gpu

import (
	"context"
	"fmt"

	"github.com/myspinbot/myspinbot/events"
)

// engine runs one task with one program or model. The consumer hands it clear
// text and local files, and seals, digests and uploads what comes back, so that
// an engine knows nothing of the log or the object store.
type engine interface {
	// Capability is what the engine announces when it can run now; with gap not
	// nil it cannot, and gap says why and how to mend it.
	Capability(ctx context.Context) (c events.TaskCapability, gap *events.TaskGap)
	// Run does the work inside a.Dir. It stops its children when ctx ends. An
	// error other than *TaskError counts as class internal.
	Run(ctx context.Context, a *Attempt) (*Output, error)
}

// Attempt is one run of one stage, with its inputs opened and at hand.
type Attempt struct {
	ID, JobID, Stage, Task, Variant string
	Number                          int    // from 1
	Profile                         string // its id; empty: the job has none
	Params                          map[string]any
	Texts                           map[string]string // clear text by input name
	Files                           map[string][]File // local files by input name; those of lateInputs have no path yet
	Dir                             string            // absolute, empty, removed afterwards
	// Engines are those that the job allows, and Wants the one that the node wants; see
	// events.TaskCapability.Serves.
	Engines, Wants string
	// Reduce is how many attempts of the stage ran out of memory before this one: ask for
	// less each time, and say so in the notes. An engine that cannot ignores it.
	Reduce int
	// Fetch brings the file of a late input to a new file at path, and checks its digest. Its
	// errors are *TaskError.
	Fetch func(ctx context.Context, f events.Artifact, path string) error
	// Progress reports percent (0-100) and fixed wording; it is also the lease's beat.
	Progress func(percent float64, message string)
}

// File is an artifact on local disk. Output files leave ID, URI, SHA256 and Size
// of the artifact to the consumer.
type File struct {
	Path     string
	Artifact events.Artifact
}

// Output is what an engine made.
type Output struct {
	Texts    map[string]string // by output name; sealed by the consumer
	Files    map[string][]File // by output name; uploaded by the consumer
	Fidelity string            // one of events.Fidelity…
	Engine   string
	Model    string
	Version  string
	Notes    []string
	Verdict  *events.Verdict
}

// TaskError is a failure with its class. Message is our own sentence and holds
// no user text; LogTail may, and is sealed.
type TaskError struct {
	Class   string // one of events.Class…
	Message string
	Hint    string // what to do
	LogTail string // last lines of the child's output
	Err     error
	// Misplaced says that no engine of this worker can do the attempt, so that nothing ran.
	Misplaced bool
}

func (e *TaskError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Class, e.Message, e.Err)
	}
	return e.Class + ": " + e.Message
}

func (e *TaskError) Unwrap() error { return e.Err }
