// What a job is made of, read by scanner. Members stand in the order of the fields.

package events

import (
	"bytes"
	"hash/maphash"
	"slices"
	"sync/atomic"
)

func (s *scanner) request() (r Request) {
	s.fields(member{"workflow_id", &r.Workflow}, member{"mode", &r.Mode}, member{"variant", &r.Variant}, member{"options", &r.Options},
		member{"inputs", &r.Inputs}, member{"profile_id", &r.ProfileID}, member{"profile_name", &r.ProfileName}, member{"consent", &r.Consent},
		member{"key_digest", &r.KeyDigest}, member{"body_digest", &r.BodyDigest}, member{"approval", &r.Approval},
		member{"not_before_ms", &r.NotBeforeMS}, member{"priority", &r.Priority}, member{"edit", &r.Edit}, member{"parent_job_id", &r.ParentJobID},
		member{"engines", &r.Engines}, member{"definition", &r.Definition}, member{"webhook", &r.Webhook},
		member{"labels", &r.Labels})
	return r
}

func (s *scanner) sealed() (v Sealed) {
	s.fields(member{"sealed", &v.Bytes}, member{"key", &v.Key})
	return v
}

func (s *scanner) webhook() (h Webhook) {
	s.fields(member{"url", &h.URL}, member{"secret", &h.Secret}, member{"endpoint", &h.Endpoint}, member{"events", &h.Events})
	return h
}

func (s *scanner) consent() (c Consent) {
	s.fields(member{"by", &c.By}, member{"statement", &c.Statement})
	return c
}

func (s *scanner) one() (v Value) {
	s.fields(member{"text", &v.Text}, member{"digest", &v.Digest}, member{"artifacts", &v.Artifacts})
	return v
}

func (s *scanner) artifact() (a Artifact) {
	s.fields(member{"id", &a.ID}, member{"name", &a.Name}, member{"type", &a.Type}, member{"media_type", &a.MediaType}, member{"uri", &a.URI},
		member{"sha256", &a.SHA256}, member{"size", &a.Size}, member{"width", &a.Width}, member{"height", &a.Height}, member{"duration_ms", &a.DurationMS})
	return a
}

// result reads an object that begins with its members.
func (s *scanner) result(more member) (r Result) {
	s.fields(member{"outputs", &r.Outputs}, member{"fidelity", &r.Fidelity}, member{"engine", &r.Engine}, member{"version", &r.Version},
		member{"notes", &r.Notes}, member{"verdict", &r.Verdict}, more)
	return r
}

func (s *scanner) delivery() (d Delivery) {
	s.fields(member{"delivery_id", &d.DeliveryID}, member{"event", &d.Event}, member{"partition", &d.Partition}, member{"offset", &d.Offset})
	return d
}

func (s *scanner) verdict() (v Verdict) {
	s.fields(member{"allowed", &v.Allowed}, member{"reasons", &v.Reasons})
	return v
}

func (s *scanner) reason() (r Reason) {
	s.fields(member{"code", &r.Code}, member{"field", &r.Field}, member{"detail", &r.Detail})
	return r
}

func (s *scanner) reused() (r ReusedFrom) {
	s.fields(member{"job_id", &r.JobID}, member{"stage", &r.Stage}, member{"input_hash", &r.InputHash})
	return r
}

func (s *scanner) profile() (p ProfileSnapshot) {
	s.fields(member{"id", &p.ID}, member{"version", &p.Version}, member{"portrait", &p.Portrait}, member{"voice", &p.Voice},
		member{"transcript", &p.Transcript}, member{"lora", &p.Lora}, member{"consented", &p.Consented}, member{"voice_weights", &p.VoiceWeights})
	return p
}

// attachment reads an object that begins with its members.
func (s *scanner) attachment(more ...member) (a Attachment) {
	s.fields(append([]member{{"artifact", &a.Artifact}, {"fidelity", &a.Fidelity}, {"engine", &a.Engine}, {"from_job", &a.FromJob}}, more...)...)
	return a
}

func (s *scanner) state() (j JobState) {
	s.fields(member{"state", &j.State}, member{"submitted_at", &j.SubmittedAt}, member{"request", &j.Request}, member{"parent", &j.Parent},
		member{"graph", &j.Graph}, member{"deadline_ms", &j.DeadlineMS}, member{"profile", &j.Profile}, member{"stages", &j.Stages},
		member{"values", &j.Values}, member{"cancelling", &j.Cancelling}, member{"labelled", &j.Labelled})
	return j
}

func (s *scanner) stage() (v StageState) {
	s.fields(member{"state", &v.State}, member{"attempt", &v.Attempt}, member{"deadline_ms", &v.DeadlineMS}, member{"lease_ms", &v.LeaseMS},
		member{"partition", &v.Partition}, member{"input_hash", &v.InputHash}, member{"expired", &v.Expired}, member{"reduce", &v.Reduce},
		member{"misplaced", &v.Misplaced})
	return v
}

func (s *scanner) graph() (g Graph) {
	s.fields(member{"workflow_id", &g.Workflow}, member{"variant", &g.Variant}, member{"mode", &g.Mode}, member{"profile_id", &g.ProfileID},
		member{"options", &g.Options}, member{"nodes", &g.Nodes}, member{"edges", &g.Edges})
	return g
}

func (s *scanner) edge() (e Edge) {
	s.fields(member{"from", &e.From}, member{"to", &e.To})
	return e
}

func (s *scanner) node() (n Node) {
	s.fields(member{"id", &n.ID}, member{"task", &n.Task}, member{"plane", &n.Plane}, member{"lane", &n.Lane}, member{"params", &n.Params},
		member{"in", &n.In}, member{"out", &n.Out}, member{"pass", &n.Pass}, member{"weight", &n.Weight}, member{"timeout_ms", &n.TimeoutMS},
		member{"skip", &n.Skip}, member{"engine", &n.Engine})
	return n
}

// plan is a part of a graph as it is written, and as it is read.
type plan struct {
	raw   []byte
	nodes []Node
	edges []Edge
}

// plans are the nodes and edges that came last. The jobs of a pipeline mostly have
// equal ones, and then they share them.
var plans [256]atomic.Pointer[plan]

var planSeed = maphash.MakeSeed()

// planStart is by how many bytes of their beginnings plans are told apart at first.
const planStart = 160

// known takes the list of nodes or edges that comes, if it is the one that came last
// in its place. Otherwise it reads it by read, to be known the next time.
func (s *scanner) known(read func() plan) plan {
	rest := s.b[s.i:]
	at := &plans[maphash.Bytes(planSeed, rest[:min(len(rest), planStart)])%uint64(len(plans))]
	if p := at.Load(); p != nil && bytes.HasPrefix(rest, p.raw) {
		s.i += len(p.raw)
		return *p
	}
	from, dry := s.i, s.dry
	s.dry = false // others may want it
	p := read()
	if s.dry = dry; !s.bad {
		p.raw = bytes.Clone(s.b[from:s.i])
		p.nodes, p.edges = slices.Clip(p.nodes), slices.Clip(p.edges)
		at.Store(&p)
	}
	return p
}

func (s *scanner) nodes() []Node {
	return s.known(func() plan { return plan{nodes: listOf(s, s.node)} }).nodes
}

func (s *scanner) edges() []Edge {
	return s.known(func() plan { return plan{edges: listOf(s, s.edge)} }).edges
}
