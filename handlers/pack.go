// Packed jobs: one that nothing has happened to for a while lies in memory in a few
// hundred bytes. Ids and digests lose their hex, words and graphs that many jobs have
// in common are kept once.

package handlers

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// common is what packed jobs share. Words and graphs are never forgotten, so there
// are bounds: what comes later is packed as it is, or not at all. Partitions that are
// recovered side by side pack and unpack side by side.
type common struct {
	mu     sync.RWMutex
	words  []string
	word   map[string]int
	graphs []events.Graph // without parameters and options
	graph  map[string]int // by packed form
}

const (
	mostWords   = 4096
	mostGraphs  = 1024
	longestWord = 32
)

func newCommon() *common { return &common{word: map[string]int{}, graph: map[string]int{}} }

// How a string begins; from firstWord on it is a word.
const (
	emptyText = iota
	uuidText
	hexText
	plainText
	firstWord
)

type packer struct {
	c  *common
	b  []byte
	ok bool
}

// pack is the job in short; ok is false for a job that has something that it cannot hold.
func (c *common) pack(j *aggregates.Job) (packed []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := packer{c: c, b: make([]byte, 0, 512), ok: true}
	p.job(j)
	return append(make([]byte, 0, len(p.b)), p.b...), p.ok
}

func (p *packer) uint(n int)  { p.b = binary.AppendUvarint(p.b, uint64(n)) } //nolint:gosec // counts
func (p *packer) int(n int64) { p.b = binary.AppendVarint(p.b, n) }
func (p *packer) bytes(b []byte) {
	p.size(len(b), b == nil)
	p.b = append(p.b, b...)
}

func (p *packer) bool(v bool) {
	n := 0
	if v {
		n = 1
	}
	p.uint(n)
}

func (p *packer) text(s string) {
	var k jobKey
	switch {
	case s == "":
		p.uint(emptyText)
	case parseUUID(s, &k):
		p.uint(uuidText)
		p.b = append(p.b, k[:]...)
	case len(s) > longestWord && len(s)%2 == 0 && isHex(s):
		p.uint(hexText)
		p.uint(len(s) / 2)
		for i := 0; i < len(s); i += 2 {
			p.b = append(p.b, hexValues[s[i]]<<4|hexValues[s[i+1]])
		}
	default:
		p.wordOrText(s)
	}
}

func (p *packer) wordOrText(s string) {
	i, known := p.c.word[s]
	if !known && len(s) <= longestWord && len(p.c.words) < mostWords {
		i, known = len(p.c.words), true
		p.c.word[s] = i
		p.c.words = append(p.c.words, s)
	}
	if known {
		p.uint(firstWord + i)
		return
	}
	p.uint(plainText)
	p.uint(len(s))
	p.b = append(p.b, s...)
}

func isHex(s string) bool {
	for i := range len(s) {
		if hexValues[s[i]] > 15 {
			return false
		}
	}
	return true
}

func (p *packer) job(j *aggregates.Job) {
	p.int(j.Chain.Version)
	for _, s := range []string{j.Chain.LastID, j.ID, j.Tenant, j.CorrelationID, j.State} {
		p.text(s)
	}
	p.time(j.SubmittedAt)
	p.request(&j.Request)
	p.rare(j.Parent, j.Parent == nil)
	p.planned(&j.Graph)
	p.int(j.DeadlineMS)
	p.rare(j.Profile, j.Profile == nil)
	p.uint(len(j.Stages))
	for _, s := range j.Stages {
		p.text(s.State)
		p.int(int64(s.Attempt))
		p.int(s.DeadlineMS)
		p.int(s.LeaseMS)
		p.int(int64(s.Partition))
		p.text(s.InputHash)
		p.bool(s.Expired)
		p.int(int64(s.Reduce))
		p.int(int64(s.Misplaced))
	}
	p.values(j.Values)
	p.bool(j.Cancelling)
	p.rare(j.Labelled, len(j.Labelled) == 0)
}

func (p *packer) time(t time.Time) {
	p.bool(t.IsZero())
	if !t.IsZero() {
		p.int(t.UnixNano())
	}
}

// rare holds what few jobs have, as JSON.
func (p *packer) rare(v any, absent bool) {
	if absent {
		p.bytes(nil)
		return
	}
	b, err := json.Marshal(v)
	p.ok = p.ok && err == nil
	p.bytes(b)
}

func (p *packer) request(r *events.Request) {
	for _, s := range []string{r.Workflow, r.Mode, r.Variant, r.ProfileID, r.KeyDigest, r.BodyDigest, r.Priority, r.ParentJobID, r.Engines, r.Definition} {
		p.text(s)
	}
	p.params(r.Options)
	p.values(r.Inputs)
	p.rare(r.ProfileName, r.ProfileName == nil)
	p.rare(r.Consent, r.Consent == nil)
	p.rare(r.Edit, r.Edit == nil)
	p.rare(r.Webhook, r.Webhook == nil)
	p.rare(r.Labels, len(r.Labels) == 0)
	p.bool(r.Approval)
	p.int(r.NotBeforeMS)
}

func (p *packer) planned(g *events.Graph) {
	shape := packer{c: p.c, b: make([]byte, 0, 256), ok: true}
	shape.shape(g)
	key := string(shape.b)
	i, known := p.c.graph[key]
	if !known {
		if len(p.c.graphs) == mostGraphs {
			p.ok = false
			return
		}
		bare := *g
		bare.Options, bare.Nodes = nil, slices.Clone(g.Nodes)
		for n := range bare.Nodes {
			bare.Nodes[n].Params = nil
		}
		i = len(p.c.graphs)
		p.c.graph[key] = i
		p.c.graphs = append(p.c.graphs, bare)
	}
	p.uint(i)
	p.params(g.Options)
	for _, n := range g.Nodes {
		p.params(n.Params)
	}
	p.text(g.ProfileID)
}

// shape is all of a graph that jobs have in common.
func (p *packer) shape(g *events.Graph) {
	for _, s := range []string{g.Workflow, g.Variant, g.Mode} {
		p.text(s)
	}
	p.bool(g.Nodes == nil)
	p.bool(g.Edges == nil)
	for _, n := range g.Nodes {
		for _, s := range []string{n.ID, n.Task, n.Plane, n.Lane, n.Skip, n.Engine} {
			p.text(s)
		}
		for _, m := range []map[string]string{n.In, n.Out, n.Pass} {
			p.bool(m == nil)
			p.uint(len(m))
			for _, k := range slices.Sorted(maps.Keys(m)) {
				p.text(k)
				p.text(m[k])
			}
		}
		p.b = binary.BigEndian.AppendUint64(p.b, math.Float64bits(n.Weight))
		p.int(n.TimeoutMS)
	}
	for _, e := range g.Edges {
		p.text(e.From)
		p.text(e.To)
	}
}

// How a parameter's value begins.
const (
	textParam = iota
	wholeParam
	floatParam
	trueParam
	falseParam
)

func (p *packer) params(m map[string]any) {
	p.size(len(m), m == nil)
	for k, v := range m {
		p.text(k)
		switch v := v.(type) {
		case string:
			p.uint(textParam)
			p.text(v)
		case float64:
			if w := int64(v); float64(w) == v && (v != 0 || !math.Signbit(v)) && math.Abs(v) < 1e15 {
				p.uint(wholeParam)
				p.int(w)
				continue
			}
			p.uint(floatParam)
			p.b = binary.BigEndian.AppendUint64(p.b, math.Float64bits(v))
		case bool:
			p.uint(falseParam)
			if v {
				p.b[len(p.b)-1] = trueParam
			}
		default:
			p.ok = false
		}
	}
}

// size tells an empty map or list from none.
func (p *packer) size(n int, none bool) {
	if none {
		p.uint(0)
		return
	}
	p.uint(n + 1)
}

func (p *packer) values(m map[string]events.Value) {
	p.size(len(m), m == nil)
	for k, v := range m {
		p.text(k)
		p.bool(v.Text != nil)
		if v.Text != nil {
			p.bytes(v.Text.Bytes)
			p.text(v.Text.Key)
		}
		p.text(v.Digest)
		p.size(len(v.Artifacts), v.Artifacts == nil)
		for _, a := range v.Artifacts {
			for _, s := range []string{a.ID, a.Name, a.Type, a.MediaType, a.URI, a.SHA256} {
				p.text(s)
			}
			for _, n := range []int64{a.Size, int64(a.Width), int64(a.Height), a.DurationMS} {
				p.int(n)
			}
		}
	}
}
