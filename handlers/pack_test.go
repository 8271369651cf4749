// Packed jobs come back whole.

package handlers

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// fill draws a value for everything that is exported, and so for every field that is
// added one day.
func fill(t *rapid.T, v reflect.Value, depth int) {
	n := rapid.IntRange(0, max(1, 3-depth)).Draw(t, "n")
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.OneOf(rapid.StringMatching(`[a-z]{1,3}`), rapid.StringMatching(`[0-9a-f]{30,40}`), rapid.StringMatching(`[a-zé"/]{30,50}`),
			rapid.Just(""), rapid.Map(rapid.Int(), func(n int) string { return events.NameID(fmt.Sprint(n)) })).Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.OneOf(rapid.Just(int64(0)), rapid.Int64()).Draw(t, "int"))
	case reflect.Int32:
		v.SetInt(int64(rapid.Int32().Draw(t, "int32")))
	case reflect.Float64:
		v.SetFloat(rapid.OneOf(rapid.Float64Range(-1e18, 1e18), rapid.Map(rapid.IntRange(-5, 5), func(n int) float64 { return float64(n) })).Draw(t, "float"))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(rapid.SampledFrom([]time.Time{{}, start, start.Add(1)}).Draw(t, "time")))
			return
		}
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				fill(t, f, depth+1)
			}
		}
	case reflect.Pointer:
		if rapid.IntRange(0, 2).Draw(t, "set") == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), depth+1)
		}
	case reflect.Slice:
		if n == 0 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			if v.Type().Elem().Kind() == reflect.Uint8 {
				v.Index(i).SetUint(uint64(rapid.Byte().Draw(t, "byte")))
				continue
			}
			fill(t, v.Index(i), depth+1)
		}
	case reflect.Map:
		if n == 0 {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for i := range n {
			e := reflect.New(v.Type().Elem()).Elem()
			fill(t, e, depth+1)
			v.SetMapIndex(reflect.ValueOf(fmt.Sprint("k", i)), e)
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]any{"a", 1.0, -0.5, true, false}).Draw(t, "any")))
	default:
		t.Fatalf("nothing to fill a %s with", v.Type())
	}
}

func TestPackedJobsComeBackWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newCommon()
		for range 3 {
			var j aggregates.Job
			fill(t, reflect.ValueOf(&j).Elem(), 0)
			packed, ok := c.pack(&j)
			if !ok {
				t.Fatal("it was not packed")
			}
			if got := c.unpack(packed); !reflect.DeepEqual(*got, j) {
				t.Fatalf("got  %+v\nwant %+v", *got, j)
			}
		}
	})
}

// What packed jobs share is bounded; a job beyond the bounds stays as it is.
func TestBoundsOfWhatPackedJobsShare(t *testing.T) {
	t.Parallel()
	c := newCommon()
	for n := range mostGraphs + 1 {
		j := aggregates.Job{ID: fmt.Sprint("job ", n)}
		j.Graph.Workflow = fmt.Sprint("workflow ", n)
		packed, ok := c.pack(&j)
		if ok != (n < mostGraphs) {
			t.Fatalf("job %d: packed %v", n, ok)
		}
		if ok && c.unpack(packed).ID != j.ID {
			t.Fatalf("job %d came back as another", n)
		}
	}
	for n := range mostWords {
		c.pack(&aggregates.Job{ID: fmt.Sprint("other ", n)})
	}
	if len(c.words) != mostWords {
		t.Fatalf("%d words", len(c.words))
	}
	packed, ok := c.pack(&aggregates.Job{ID: "one too many"})
	if ok && c.unpack(packed).ID != "one too many" {
		t.Fatal("a job came back as another")
	}
}
