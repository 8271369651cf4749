// The reading and writing without reflection against encoding/json.

package events

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// fill draws a value for everything that is exported.
func fill(t *rapid.T, v reflect.Value, depth int) {
	few := func() int { return rapid.IntRange(0, max(0, 3-depth)).Draw(t, "n") }
	switch v.Kind() {
	case reflect.String:
		v.SetString(drawText(t))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.OneOf(rapid.Just(int64(0)), rapid.Int64()).Draw(t, "int"))
	case reflect.Int32:
		v.SetInt(int64(rapid.Int32().Draw(t, "int32")))
	case reflect.Float64:
		v.SetFloat(drawFloat(t))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(drawTime(t)))
			return
		}
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				fill(t, f, depth+1)
			}
		}
	case reflect.Pointer:
		if rapid.IntRange(0, 3).Draw(t, "set") == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), depth+1)
		}
	case reflect.Slice:
		if n := few(); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				if v.Type().Elem().Kind() == reflect.Uint8 {
					v.Index(i).SetUint(uint64(rapid.Byte().Draw(t, "byte")))
					continue
				}
				fill(t, v.Index(i), depth+1)
			}
		}
	case reflect.Map:
		if n := few(); n > 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				e := reflect.New(v.Type().Elem()).Elem()
				fill(t, e, depth+1)
				v.SetMapIndex(reflect.ValueOf(drawText(t)), e)
			}
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]any{drawText(t), drawFloat(t), true, false}).Draw(t, "any")))
	default:
		t.Fatalf("nothing to fill a %s with", v.Type())
	}
}

func drawText(t *rapid.T) string {
	return rapid.OneOf(rapid.StringMatching(`[a-z._/:0-9-]{0,40}`), rapid.SampledFrom([]string{"", "a<b", "x&y", `q"q`, "é", "\n", "\xff", "\u2028", "a\\b", "\x7f"})).Draw(t, "text")
}

func drawFloat(t *rapid.T) float64 {
	return rapid.OneOf(rapid.SampledFrom([]float64{0, 1, 0.25, 24_000, -3, 1e15, 1e21, 1e-7, math.Copysign(0, -1)}), rapid.Float64Range(-1e18, 1e18)).Draw(t, "float")
}

func drawTime(t *rapid.T) time.Time {
	return time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "s"), rapid.SampledFrom([]int64{0, 1, 500_000_000, 123_456_789}).Draw(t, "ns")).UTC()
}

func drawMessage(t *rapid.T) Message {
	p := newOf(catalogue[rapid.SampledFrom(Types()).Draw(t, "type")])
	fill(t, p.Elem(), 0)
	var m Message
	fill(t, reflect.ValueOf(&m.Columns).Elem(), 3)
	m.Data = p.Elem().Interface().(Payload)
	m.ID, m.AggregateID, m.PrevID = "id"+drawText(t), "a"+drawText(t), drawText(t)
	m.CommandID, m.CausationID, m.CorrelationID = rapid.SampledFrom([]string{m.ID, drawText(t)}).Draw(t, "command"), drawText(t), drawText(t)
	m.AggregateType, m.Tenant, m.Actor = drawText(t), drawText(t), drawText(t)
	m.Version, m.OccurredAt, m.SchemaVersion = rapid.Int64Range(0, 1e6).Draw(t, "version"), drawTime(t), m.Data.SchemaVersion()
	return m
}

// TestFastFormsEqualJSON draws records of every type: what is written equals what
// encoding/json writes, and what is read what encoding/json reads, in records that
// were damaged or rearranged as well.
func TestFastFormsEqualJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := drawMessage(t)
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
		sameReading(t, value)
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

// sameReading wants the scanner to agree with encoding/json wherever it reads at all.
func sameReading(t interface{ Fatalf(string, ...any) }, value []byte) {
	got, ok := scanMessage(value)
	if !ok {
		return
	}
	want, err := decode(value)
	if err != nil {
		t.Fatalf("read %s\nalthough %v", value, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("read %s\nas   %#v\nwant %#v", value, got, want)
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
		if _, ok := scanMessage(value); !ok {
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
