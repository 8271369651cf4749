// Reading packed jobs, in the order in which they are written.

package handlers

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

type unpacker struct {
	c *common
	b []byte
}

// unpack is the job again. What it reads was packed by this process.
func (c *common) unpack(packed []byte) *aggregates.Job {
	c.mu.RLock()
	defer c.mu.RUnlock()
	u := unpacker{c, packed}
	j := u.job()
	if len(u.b) > 0 {
		panic(fmt.Sprintf("a packed job has %d bytes too many", len(u.b)))
	}
	return j
}

func (u *unpacker) uint() int {
	n, size := binary.Uvarint(u.b)
	u.b = u.b[size:]
	return int(n) //nolint:gosec // a count that was written as one
}

func (u *unpacker) int() int64 {
	n, size := binary.Varint(u.b)
	u.b = u.b[size:]
	return n
}

func (u *unpacker) take(n int) []byte {
	b := u.b[:n]
	u.b = u.b[n:]
	return b
}

// bytes are the job's own: what they were packed in may be let go.
func (u *unpacker) bytes() []byte {
	n := u.uint()
	if n == 0 {
		return nil
	}
	return append([]byte{}, u.take(n-1)...)
}

func (u *unpacker) bool() bool { return u.uint() == 1 }

func (u *unpacker) text() string {
	switch n := u.uint(); n {
	case emptyText:
		return ""
	case uuidText:
		return jobKey(u.take(16)).String()
	case hexText:
		return hex.EncodeToString(u.take(u.uint()))
	case plainText:
		return string(u.take(u.uint()))
	default:
		return u.c.words[n-firstWord]
	}
}

func (u *unpacker) texts(into ...*string) {
	for _, s := range into {
		*s = u.text()
	}
}

func (u *unpacker) job() *aggregates.Job {
	var j aggregates.Job
	j.Chain.Version = u.int()
	u.texts(&j.Chain.LastID, &j.ID, &j.Tenant, &j.CorrelationID, &j.State)
	if !u.bool() {
		j.SubmittedAt = time.Unix(0, u.int()).UTC()
	}
	u.request(&j.Request)
	j.Parent = rare[events.Parent](u)
	u.planned(&j.Graph)
	j.DeadlineMS = u.int()
	j.Profile = rare[events.ProfileSnapshot](u)
	if n := u.uint(); n > 0 {
		j.Stages = make([]events.StageState, n)
	}
	for i := range j.Stages {
		s := &j.Stages[i]
		s.State = u.text()
		s.Attempt = int(u.int())
		s.DeadlineMS, s.LeaseMS = u.int(), u.int()
		s.Partition = int32(u.int()) //nolint:gosec // it was one
		s.InputHash, s.Expired = u.text(), u.bool()
		s.Reduce, s.Misplaced = int(u.int()), int(u.int())
	}
	j.Values = u.values()
	j.Cancelling = u.bool()
	if labelled := rare[[]string](u); labelled != nil {
		j.Labelled = *labelled
	}
	return &j
}

func rare[T any](u *unpacker) *T {
	b := u.bytes()
	if b == nil {
		return nil
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		panic(fmt.Sprintf("a packed job cannot be read: %v", err))
	}
	return v
}

func (u *unpacker) request(r *events.Request) {
	u.texts(&r.Workflow, &r.Mode, &r.Variant, &r.ProfileID, &r.KeyDigest, &r.BodyDigest, &r.Priority, &r.ParentJobID, &r.Engines, &r.Definition)
	r.Options = u.params()
	r.Inputs = u.values()
	r.ProfileName = rare[events.Sealed](u)
	r.Consent = rare[events.Consent](u)
	r.Edit = rare[events.Value](u)
	r.Webhook = rare[events.Webhook](u)
	if labels := rare[[]string](u); labels != nil {
		r.Labels = *labels
	}
	r.Approval = u.bool()
	r.NotBeforeMS = u.int()
}

func (u *unpacker) planned(g *events.Graph) {
	*g = u.c.graphs[u.uint()]
	g.Options = u.params()
	g.Nodes = slices.Clone(g.Nodes)
	for i := range g.Nodes {
		g.Nodes[i].Params = u.params()
	}
	g.ProfileID = u.text()
}

func (u *unpacker) params() map[string]any {
	n := u.uint()
	if n == 0 {
		return nil
	}
	m := make(map[string]any, n-1)
	for range n - 1 {
		k := u.text()
		switch u.uint() {
		case textParam:
			m[k] = u.text()
		case wholeParam:
			m[k] = float64(u.int())
		case floatParam:
			m[k] = math.Float64frombits(binary.BigEndian.Uint64(u.take(8)))
		case trueParam:
			m[k] = true
		case falseParam:
			m[k] = false
		}
	}
	return m
}

func (u *unpacker) values() map[string]events.Value {
	n := u.uint()
	if n == 0 {
		return nil
	}
	m := make(map[string]events.Value, n-1)
	for range n - 1 {
		k := u.text()
		var v events.Value
		if u.bool() {
			v.Text = &events.Sealed{Bytes: u.bytes(), Key: u.text()}
		}
		v.Digest = u.text()
		if n := u.uint(); n > 0 {
			v.Artifacts = make([]events.Artifact, n-1)
		}
		for i := range v.Artifacts {
			a := &v.Artifacts[i]
			u.texts(&a.ID, &a.Name, &a.Type, &a.MediaType, &a.URI, &a.SHA256)
			a.Size, a.Width, a.Height, a.DurationMS = u.int(), int(u.int()), int(u.int()), u.int()
		}
		m[k] = v
	}
	return m
}
