// The transaction runner of the deciding path: inputs, the records decided from
// them and the consumed offsets commit together or not at all.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// State is what a decider remembers per partition number. The runner calls it,
// and Decide, from one goroutine, with one exception: it calls Recover for several
// partitions at once, each from a goroutine of its own, and nothing else until all of
// these calls have returned.
type State interface {
	// Recover builds the state of partition p from nothing: meta is the text of the
	// newest commit among its inputs, "" without one. It comes with the assignment,
	// before p's first decision, when Replay misses nothing of a previous owner's.
	// Other partitions may be recovered at the same time, p itself is not. Ctx ends when
	// the recovery of another one has failed. An error that wraps ErrUnavailable is tried
	// again, any other ends the runner.
	Recover(ctx context.Context, p int32, meta string) error
	// Meta is the text to commit for p. out are the records of the transaction
	// that were decided from p's inputs, written, with their offsets.
	Meta(p int32, out []Record) string
	// Committed: what was decided for p since the last call is now on the log.
	Committed(p int32, out []Record)
	// Drop forgets p, with what was decided and not committed: it is another
	// process's now, or will be recovered again before its next decision.
	Drop(p int32)
}

// Decider turns inputs into records.
type Decider interface {
	State
	// Decide handles the next input of its partition and returns the records to
	// write. An error that wraps ErrUndecodable sends the input to the dead letters
	// (nothing may have been decided then); any other ends the runner.
	Decide(ctx context.Context, in Record) ([]Record, error)
}

// RunnerConfig says what a runner consumes.
type RunnerConfig struct {
	Group    string   // also names the transactions
	Topics   []string // inputs, all with the same number of partitions
	Journals []string // outputs whose source headers show how far inputs were decided, should the group's offsets be lost
	MaxPoll  int      // most inputs in a transaction; default 1000
	Decider  Decider
	// Patient says of an input that nobody waits for what comes of it. While there are
	// no others, it waits for some to be decided with. Nil: none is.
	Patient  func(in Record) bool
	Patience time.Duration // how long they wait; default 3 ms
}

// patience is how long patient inputs wait for others. A transaction takes about as
// long, and whoever comes during one waits for its end.
const patience = 3 * time.Millisecond

// Runner is one member of the deciding group, by the name of Config.Instance.
type Runner struct {
	log    *Log
	cfg    RunnerConfig
	waker  waker
	member *member
	known  map[int32]*committed // partitions whose state the decider holds, and as of which commit
}

// NewRunner checks the configuration. Run does the work.
func (l *Log) NewRunner(cfg RunnerConfig) (*Runner, error) {
	def(&cfg.MaxPoll, 1000)
	def(&cfg.Patience, patience)
	if cfg.Group == "" || len(cfg.Topics) == 0 || cfg.Decider == nil {
		return nil, errors.New("cannot make a runner without a group, topics and a decider")
	}
	first := cfg.Topics[0]
	for _, t := range slices.Concat(cfg.Topics, cfg.Journals) {
		if l.Partitions(t) != l.Partitions(first) {
			return nil, fmt.Errorf("cannot run group %q: %s has %d partitions and %s has %d; they must be the same",
				cfg.Group, first, l.Partitions(first), t, l.Partitions(t))
		}
	}
	return &Runner{log: l, cfg: cfg, known: make(map[int32]*committed)}, nil
}

// Run decides until ctx ends, then finishes the batch in hand, leaves the group
// and returns nil. It survives broker outages and transactions of unknown
// outcome. It returns ErrFenced when another process has taken over its name,
// ErrDataLoss, or the decider's error; the process should then exit.
func (r *Runner) Run(ctx context.Context) error {
	return r.log.sessions(ctx, r.cfg.Group, r.session)
}

func (r *Runner) session(ctx context.Context) (err error) {
	if r.member, err = r.log.join(ctx, r.cfg.Group, r.cfg.Topics, oneSet, &r.waker, r.resume); err != nil {
		return err
	}
	defer func() {
		r.member.close(err == nil)
		for p := range r.known { // the next session recovers what it is assigned
			r.drop(p)
		}
	}()
	for {
		in, assigned, err := r.poll(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case assigned != nil:
			err = r.reassign(ctx, assigned.owned)
		case len(in) > 0:
			err = r.handle(ctx, in)
		}
		if err != nil {
			return err
		}
		r.member.cl.AllowRebalance()
	}
}

// poll waits for inputs, and for more where all are patient.
func (r *Runner) poll(ctx context.Context) ([]Record, *assignment, error) {
	in, assigned, err := r.member.poll(ctx, r.cfg.MaxPoll)
	if err != nil || assigned != nil || !r.patient(in) {
		return in, assigned, err
	}
	until := time.Now().Add(r.cfg.Patience)
	alarm := time.AfterFunc(r.cfg.Patience, r.waker.wake)
	defer alarm.Stop()
	for r.patient(in) && time.Now().Before(until) && len(in) < r.cfg.MaxPoll {
		more, assigned, err := r.member.poll(ctx, r.cfg.MaxPoll-len(in))
		if err != nil || assigned != nil { // what was polled before comes again
			return nil, assigned, err
		}
		in = append(in, more...)
	}
	return in, nil, nil
}

// patient says whether there are inputs, and none that somebody waits for.
func (r *Runner) patient(in []Record) bool {
	return r.cfg.Patient != nil && len(in) > 0 && !slices.ContainsFunc(in, func(rec Record) bool { return !r.cfg.Patient(rec) })
}

func (r *Runner) drop(p int32) {
	r.cfg.Decider.Drop(p)
	delete(r.known, p)
}

// oneSet: a runner's inputs are all co-partitioned.
func oneSet(string) string { return "" }

// reassign recovers what is new in the assignment and drops what is gone.
func (r *Runner) reassign(ctx context.Context, all owned) error {
	if all == nil {
		return nil // between two assignments: what stays ours is known after it
	}
	assigned := all[oneSet("")]
	for p, k := range r.known {
		// Every transaction moves an offset: where none has moved, nobody else decided.
		if now := assigned[p]; now == nil || !maps.Equal(now.offsets, k.offsets) {
			r.drop(p)
		}
	}
	return r.recover(ctx, assigned)
}

// atOnce is how many partitions are recovered side by side for each processor: they do
// not come in multiples of these, and each waits for its broker now and then.
const atOnce = 2

// recover recovers the partitions that are not known yet.
func (r *Runner) recover(ctx context.Context, assigned map[int32]*committed) error {
	unknown := slices.DeleteFunc(slices.Sorted(maps.Keys(assigned)), func(p int32) bool { return r.known[p] != nil })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce * runtime.GOMAXPROCS(0))
	var mu sync.Mutex
	for _, p := range unknown {
		g.Go(func() error {
			if err := r.cfg.Decider.Recover(ctx, p, assigned[p].meta); err != nil {
				return fmt.Errorf("cannot recover partition %d: %w", p, err)
			}
			mu.Lock()
			defer mu.Unlock()
			r.known[p] = assigned[p]
			return nil
		})
	}
	err := g.Wait()
	if errors.Is(err, ErrUnavailable) {
		return errSession{err}
	}
	return err
}

// batch is one transaction's worth of decisions.
type batch struct {
	moved Offsets            // the inputs consumed
	out   map[int32][]Record // by the input's partition number
	sent  map[int32][]*kgo.Record
	all   []*kgo.Record
}

// handle decides the inputs and commits the outcome in one transaction.
func (r *Runner) handle(ctx context.Context, in []Record) error {
	b, err := r.decide(ctx, in)
	if err != nil {
		return err
	}
	if err := r.member.transact(ctx, b.all, r.positions(b)); err != nil {
		return err
	}
	for tp, o := range b.moved {
		r.known[tp.Partition].offsets[tp] = o
	}
	for p := range b.out {
		r.known[p].seq++
		r.cfg.Decider.Committed(p, b.out[p])
	}
	return nil
}

// decide runs the inputs through the decider, partition by partition.
func (r *Runner) decide(ctx context.Context, in []Record) (*batch, error) {
	slices.SortStableFunc(in, func(a, b Record) int { return int(a.Partition) - int(b.Partition) })
	b := &batch{moved: make(Offsets), out: make(map[int32][]Record), sent: make(map[int32][]*kgo.Record)}
	for _, input := range in {
		p := input.Partition
		if r.known[p] == nil {
			return nil, errSession{fmt.Errorf("an input of partition %d came without its assignment", p)}
		}
		decided, err := r.cfg.Decider.Decide(ctx, input)
		if errors.Is(err, ErrUndecodable) {
			decided, err = []Record{r.log.deadLetter(input, err)}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot decide the record at %s offset %d: %w", input.At(), input.Offset, err)
		}
		b.moved[input.At()] = input.Offset + 1
		if b.out[p] == nil {
			b.out[p] = []Record{}
		}
		for _, rec := range decided {
			sent, err := r.log.outgoing(rec, &input)
			if err != nil {
				return nil, err
			}
			b.out[p] = append(b.out[p], rec)
			b.sent[p] = append(b.sent[p], sent)
			b.all = append(b.all, sent)
		}
	}
	return b, nil
}

// positions are behind the batch's inputs, all of a partition number with one text.
func (r *Runner) positions(b *batch) positions {
	texts := make(map[int32]*string)
	var p positions
	for tp, o := range b.moved {
		if texts[tp.Partition] == nil {
			texts[tp.Partition] = new(string)
		}
		p.add(r.log.cfg.Prefix+tp.Topic, tp.Partition, o, texts[tp.Partition])
	}
	p.late = func() {
		for n, text := range texts {
			for i, s := range b.sent[n] {
				out := &b.out[n][i]
				out.Partition, out.Offset, out.Time = s.Partition, s.Offset, s.Timestamp
			}
			*text = *r.log.formatMeta(r.known[n].seq+1, r.cfg.Decider.Meta(n, b.out[n]))
		}
	}
	return p
}

// resume goes on after the last input that the journals show as decided.
func (r *Runner) resume(ctx context.Context, from Offsets) error {
	before := maps.Clone(from)
	partitions := make(map[int32]bool)
	for tp := range from {
		partitions[tp.Partition] = true
	}
	for p := range partitions {
		for _, journal := range r.cfg.Journals {
			if _, err := r.log.Replay(ctx, TopicPartition{journal, p}, 0, from.raise); err != nil {
				return fmt.Errorf("cannot find the last decided input: %w", err)
			}
		}
	}
	for tp, o := range from {
		if o > before[tp] {
			r.log.cfg.Logger.Warn("the group has no offset; going on after the last decided input", "input", tp.String(), "offset", o)
		}
	}
	return nil
}

// raise lifts the positions to behind every source that the records name.
func (o Offsets) raise(records []Record) error {
	for _, r := range records {
		p, err := strconv.ParseInt(r.Header(HeaderSourcePartition), 10, 32)
		if err != nil {
			continue // not decided from an input
		}
		tp := TopicPartition{r.Header(HeaderSourceTopic), int32(p)}
		offset, err := strconv.ParseInt(r.Header(HeaderSourceOffset), 10, 64)
		if have, wanted := o[tp]; wanted && err == nil {
			o[tp] = max(have, offset+1)
		}
	}
	return nil
}
