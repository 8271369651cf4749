// What a job is made of: its graph of nodes, and the values that flow along it.

package events

import "time"

// Planes of a node: where it runs.
const (
	PlaneControl = "control" // the specification's "node"
	PlaneGPU     = "gpu"     // the specification's "python"
)

// Graph is a job's plan: which tasks run, with what, in which order.
type Graph struct {
	Workflow  string         `json:"workflow_id"` // e.g. train_and_generate_v1
	Variant   string         `json:"variant"`
	Mode      string         `json:"mode"`
	ProfileID string         `json:"profile_id,omitempty"`
	Options   map[string]any `json:"options,omitempty"` // as accepted, defaults filled
	Nodes     []Node         `json:"nodes"`             // in a topological order
	Edges     []Edge         `json:"edges"`
}

// Node is one stage of a job.
type Node struct {
	ID     string         `json:"id"`
	Task   string         `json:"task"`
	Plane  string         `json:"plane"`
	Lane   string         `json:"lane,omitempty"` // empty: decided inside the job handler
	Params map[string]any `json:"params,omitempty"`
	// In maps an input's name to the key of the value it reads. A key ending in
	// "?" is optional: absent is allowed.
	In map[string]string `json:"in,omitempty"`
	// Out maps an output's name to the key of the value it writes.
	Out map[string]string `json:"out,omitempty"`
	// Pass maps an output's name to the key it takes over when the node is skipped.
	Pass      map[string]string `json:"pass,omitempty"`
	Weight    float64           `json:"weight"` // share of the job's progress; all weights add up to 1
	TimeoutMS int64             `json:"timeout_ms,omitempty"`
	Skip      string            `json:"skip,omitempty"` // reason, when the plan leaves the node out
	// Engine is the one that the pipeline wants for the node; where previews are
	// allowed, a built-in one stands in for it. Empty: whichever there is.
	Engine string `json:"engine,omitempty"`
}

// Edge says that To starts only after From has ended well.
type Edge struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Artifact refers to bytes in the object store.
type Artifact struct {
	ID         string `json:"id"`
	Name       string `json:"name"` // file name, made by the program, never the user's
	Type       string `json:"type"` // portrait, voice, image, video, audio, captions, thumbnail, dataset, weights, timing
	MediaType  string `json:"media_type"`
	URI        string `json:"uri"` // s3://bucket/key
	SHA256     string `json:"sha256"`
	Size       int64  `json:"size"` // bytes
	Width      int    `json:"width,omitempty"`
	Height     int    `json:"height,omitempty"`
	DurationMS int64  `json:"duration_ms,omitempty"`
}

// Value is what one stage hands to the next: sealed text, or artifacts.
type Value struct {
	Text *Sealed `json:"text,omitempty"`
	// Digest is the HMAC of the text in clear under the tenant's digest key: equal
	// texts compare equal, though no two seals do.
	Digest    string     `json:"digest,omitempty"`
	Artifacts []Artifact `json:"artifacts,omitempty"`
}

// Present says whether the value holds anything.
func (v Value) Present() bool { return v.Text != nil || len(v.Artifacts) > 0 }

// JobState is everything that decisions about a job depend on, as a carried-forward
// event repeats it. Its words are the aggregate's.
type JobState struct {
	State       string           `json:"state"`
	SubmittedAt time.Time        `json:"submitted_at"`
	Request     Request          `json:"request"`
	Parent      *Parent          `json:"parent,omitempty"`
	Graph       Graph            `json:"graph"`
	DeadlineMS  int64            `json:"deadline_ms"` // Unix milliseconds
	Profile     *ProfileSnapshot `json:"profile,omitempty"`
	Stages      []StageState     `json:"stages,omitempty"` // parallel to Graph.Nodes
	Values      map[string]Value `json:"values,omitempty"` // what stages hand on, by key
	Cancelling  bool             `json:"cancelling,omitempty"`
	Labelled    []string         `json:"labelled,omitempty"` // ids of the commands that changed the labels, in their order
}

// StageState is where one node of a job's graph stands.
type StageState struct {
	State      string `json:"state"`
	Attempt    int    `json:"attempt,omitempty"`     // current, from 1; 0 before the first
	DeadlineMS int64  `json:"deadline_ms,omitempty"` // of the running attempt, the back-off or the approval; Unix milliseconds
	LeaseMS    int64  `json:"lease_ms,omitempty"`    // of the running attempt
	Partition  int32  `json:"partition,omitempty"`   // of the lane's topic, of the current attempt
	InputHash  string `json:"input_hash,omitempty"`  // of the current attempt
	Expired    bool   `json:"expired,omitempty"`     // the current attempt's lease ran out, its back-off runs
	Reduce     int    `json:"reduce,omitempty"`      // attempts that ran out of memory
	Misplaced  int    `json:"misplaced,omitempty"`   // attempts that came to workers who cannot do them
}
