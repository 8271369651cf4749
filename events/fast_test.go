// The reading and writing without reflection against encoding/json.

package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawer draws messages, a plain one those that look as most records do: texts without
// escapes, numbers without exponents, no parent.
type drawer struct {
	*rapid.T
	plain bool
}

// fill draws a value for everything that is exported.
func (t drawer) fill(v reflect.Value, depth int) {
	few := func() int { return rapid.IntRange(0, max(0, 3-depth)).Draw(t.T, "n") }
	switch v.Kind() {
	case reflect.String:
		v.SetString(t.text())
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t.T, "bool"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.OneOf(rapid.Just(int64(0)), rapid.Int64()).Draw(t.T, "int"))
		if t.plain {
			v.SetInt(v.Int() / 10)
		}
	case reflect.Int32:
		v.SetInt(int64(rapid.Int32().Draw(t.T, "int32")))
	case reflect.Float64:
		v.SetFloat(t.float())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(t.time()))
			return
		}
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				t.fill(f, depth+1)
			}
		}
	case reflect.Pointer:
		if t.plain && v.Type() == reflect.TypeFor[*Parent]() {
			return
		}
		if rapid.IntRange(0, 3).Draw(t.T, "set") == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			t.fill(v.Elem(), depth+1)
		}
	case reflect.Slice:
		if n := few(); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				if v.Type().Elem().Kind() == reflect.Uint8 {
					v.Index(i).SetUint(uint64(rapid.Byte().Draw(t.T, "byte")))
					continue
				}
				t.fill(v.Index(i), depth+1)
			}
		}
	case reflect.Map:
		if n := few(); n > 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				e := reflect.New(v.Type().Elem()).Elem()
				t.fill(e, depth+1)
				v.SetMapIndex(reflect.ValueOf(t.text()), e)
			}
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]any{t.text(), t.float(), true, false}).Draw(t.T, "any")))
	default:
		t.Fatalf("nothing to fill a %s with", v.Type())
	}
}

func (t drawer) text() string {
	if t.plain {
		return rapid.StringMatching(`[a-z._/:0-9 -]{0,40}`).Draw(t.T, "text")
	}
	return rapid.OneOf(rapid.StringMatching(`[a-z._/:0-9-]{0,40}`), rapid.SampledFrom([]string{"", "a<b", "x&y", `q"q`, "é", "\n", "\xff", "\u2028", "a\\b", "\x7f"})).Draw(t.T, "text")
}

func (t drawer) float() float64 {
	if t.plain {
		return rapid.SampledFrom([]float64{0, 1, 0.25, 24_000}).Draw(t.T, "float")
	}
	return rapid.OneOf(rapid.SampledFrom([]float64{0, 1, 0.25, 24_000, -3, 1e15, 1e21, 1e-7, math.Copysign(0, -1)}), rapid.Float64Range(-1e18, 1e18)).Draw(t.T, "float")
}

func (t drawer) time() time.Time {
	return time.Unix(rapid.Int64Range(0, 4e9).Draw(t.T, "s"), rapid.SampledFrom([]int64{0, 1, 500_000_000, 123_456_789}).Draw(t.T, "ns")).UTC()
}

func (t drawer) message() Message {
	p := newOf(catalogue[rapid.SampledFrom(Types()).Draw(t.T, "type")])
	t.fill(p.Elem(), 0)
	var m Message
	t.fill(reflect.ValueOf(&m.Columns).Elem(), 3)
	m.Data = p.Elem().Interface().(Payload)
	m.ID, m.AggregateID, m.PrevID = "id"+t.text(), "a"+t.text(), t.text()
	m.CommandID, m.CausationID, m.CorrelationID = rapid.SampledFrom([]string{m.ID, t.text()}).Draw(t.T, "command"), t.text(), t.text()
	m.AggregateType, m.Tenant, m.Actor = t.text(), t.text(), t.text()
	m.Version, m.OccurredAt, m.SchemaVersion = rapid.Int64Range(0, 1e6).Draw(t.T, "version"), t.time(), m.Data.SchemaVersion()
	return m
}

// TestFastFormsEqualJSON draws records of every type: what is written equals what
// encoding/json writes, and what is read what encoding/json reads, in records that
// were damaged or rearranged as well.
func TestFastFormsEqualJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.Bool().Draw(t, "plain")
		m := drawer{t, plain}.message()
		want, err := json.Marshal(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := appendData(nil, m.Data); ok && !bytes.Equal(got, want) {
			t.Fatalf("wrote\n%s\nencoding/json writes\n%s", got, want)
		}
		value, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if scanned := sameReading(t, value); plain && !scanned && !slices.Contains([]string{"worker.manifest", "lane.paused", "lane.resumed", "api_key.issued", "api_key.revoked"}, m.Type()) {
			t.Fatalf("%s is left to encoding/json", value)
		}
		for range 8 {
			sameReading(t, damage(t, value))
		}
	})
}

// damage changes a few bytes, or moves a piece.
func damage(t *rapid.T, value []byte) []byte {
	out := slices.Clone(value)
	at := rapid.IntRange(0, len(out)-1).Draw(t, "at")
	end := min(len(out), at+rapid.IntRange(1, 30).Draw(t, "length"))
	switch rapid.IntRange(0, 3).Draw(t, "damage") {
	case 0:
		return slices.Delete(out, at, end)
	case 1:
		return slices.Insert(out, end, out[at:end]...)
	case 2:
		out[at] = rapid.SampledFrom([]byte(`{}[]",:0 1-e.ntf\`)).Draw(t, "byte")
	default:
		return slices.Insert(out, at, rapid.SampledFrom([]byte(`{}[]",:0 1-e.ntf\`)).Draw(t, "byte"))
	}
	return out
}

// sameReading wants the scanner to agree with encoding/json wherever it reads at all,
// and to refuse the same where only a part is wanted.
func sameReading(t interface{ Fatalf(string, ...any) }, value []byte) (scanned bool) {
	var got, part Message
	some, same := scanMessage(value, &part, func([]byte) bool { return false })
	wanted, scanned := scanMessage(value, &got, nil)
	if same != scanned || scanned && (!wanted || some) {
		t.Fatalf("read %s\nas a whole: %v, in part: %v", value, scanned, same)
	}
	if !scanned {
		return false
	}
	want, err := decode(value)
	if err != nil {
		t.Fatalf("read %s\nalthough %v", value, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("read %s\nas   %#v\nwant %#v", value, got, want)
	}
	if part.Version != want.Version || !part.OccurredAt.Equal(want.OccurredAt) {
		t.Fatalf("read %s\nin part as %#v", value, part)
	}
	return true
}

// Entries of jobs.index are read by scanner, as encoding/json reads them, damaged or not.
func TestIndexEntries(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var e IndexEntry
		drawer{t, true}.fill(reflect.ValueOf(&e).Elem(), 0)
		value, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := scanIndexEntry(value); !ok || !reflect.DeepEqual(got, e) {
			t.Fatalf("read %s\nas   %+v, %v", value, got, ok)
		}
		value = damage(t, value)
		got, ok := scanIndexEntry(value)
		var want IndexEntry
		if err := json.Unmarshal(value, &want); ok && (err != nil || !reflect.DeepEqual(got, want)) {
			t.Fatalf("read %s\nas   %+v\nwant %+v, %v", value, got, want, err)
		} else if _, refused := DecodeIndexEntry(value); (refused != nil) != (err != nil) || refused != nil && !errors.Is(refused, ErrMalformed) {
			t.Fatalf("%s: %v, want %v", value, refused, err)
		}
	})
}

// Every golden of the types that are frequent enough is read by scanner, as
// encoding/json reads it.
func TestGoldensAreScanned(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/*.json")
	if err != nil || len(paths) < len(catalogue) {
		t.Fatalf("%d goldens: %v", len(paths), err)
	}
	for _, path := range paths {
		value, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if scanned := sameReading(t, bytes.TrimSpace(value)); !scanned && !slices.Contains([]string{"job.submit.v2", "job.submit.v3", "job.submitted.v2", "job.submitted.v3",
			"job.carried_forward.v1", "job.carried_forward.v2", "job.carried_forward.v3", "worker.manifest.v1", "worker.manifest.v2", "worker.manifest.v3",
			"lane.paused.v1", "lane.resumed.v1", "api_key.issued.v1", "api_key.revoked.v1"}, strings.TrimSuffix(filepath.Base(path), ".json")) {
			t.Errorf("%s is left to encoding/json", path)
		}
	}
}

// The records that a job is made of take the fast way.
func TestFrequentRecordsAreScanned(t *testing.T) {
	t.Parallel()
	for _, p := range []Payload{
		JobSubmit{Request: Request{Options: map[string]any{"work_ms": 5.0}}}, JobSubmitted{}, JobPlanned{Graph: Graph{Nodes: []Node{{ID: "a", Weight: 0.25}}, Edges: []Edge{}}},
		JobSucceeded{Outputs: map[string]Value{}}, StageScheduled{}, StageStarted{}, StageSucceeded{}, TaskRun{}, TaskAccepted{}, TaskSucceeded{}, CommandReplied{},
	} {
		m := Message{ID: "a", AggregateID: "b", OccurredAt: time.Unix(1, 0), Data: p}
		if _, ok := appendData(nil, p); !ok {
			t.Errorf("%s is written by reflection", m.Type())
		}
		value, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := scanMessage(value, new(Message), nil); !ok {
			t.Errorf("%s is read by reflection", m.Type())
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range Types() {
		value, err := Encode(Message{ID: "a", AggregateID: "b", OccurredAt: time.Unix(1, 0), Data: catalogue[name]})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value []byte) { sameReading(t, value) })
}

func BenchmarkCodec(b *testing.B) {
	m := Message{ID: EventID(time.Unix(1, 0), "x", 0), AggregateType: AggregateJob, AggregateID: NameID("a"), Version: 5, PrevID: NameID("b"), OccurredAt: time.Unix(1, 5),
		CommandID: NameID("c"), CausationID: NameID("c"), CorrelationID: NameID("d"), Tenant: "default", Actor: "worker-1",
		Columns: Columns{JobID: NameID("a"), Stage: "script", Task: "noop.script", Attempt: 1, State: "queued", Variant: "noop", Lane: "script"},
		Data:    StageScheduled{Partition: 1, InputHash: Digest([]byte("k"), "x"), TimeoutMS: 600_000}}
	value, err := Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"encode": func() error { _, err := Encode(m); return err }, "decode": func() error { _, err := Decode(value); return err },
		"decode-json": func() error { _, err := decode(value); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
