package api

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Jobs are written as encoding/json would, whatever is in them: a field that the writer does
// not know shows here.
func TestJobsAreWrittenAsJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var answer accepted
		var page listOf[jobView]
		fill(rt, reflect.ValueOf(&answer).Elem())
		fill(rt, reflect.ValueOf(&page).Elem())
		for _, c := range []struct {
			write func(*jobWriter)
			value any
		}{
			{func(w *jobWriter) { w.accepted(&answer) }, answer},
			{func(w *jobWriter) { w.job(&answer.jobView) }, answer.jobView},
			{func(w *jobWriter) { w.page(&page) }, page},
		} {
			want, err := json.Marshal(c.value)
			if err != nil {
				rt.Fatal(err)
			}
			var w jobWriter
			if c.write(&w); w.Bad || string(w.B) != string(want) {
				rt.Fatalf("written, bad %v:\n%s\nencoding/json:\n%s", w.Bad, w.B, want)
			}
		}
	})
}

// A value that JSON does not have is an error, and no half of an answer.
func TestWhatJSONDoesNotHaveIsNotWritten(t *testing.T) {
	t.Parallel()
	for _, v := range []jobView{{CreatedAt: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}, {Request: &requestView{Options: map[string]any{"x": func() {}}}}} {
		var w jobWriter
		if w.job(&v); !w.Bad {
			t.Fatalf("written as %s", w.B)
		}
	}
}

// fill puts anything into v and all that it holds.
func fill(rt *rapid.T, v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(rapid.Int64Range(0, 4e9).Draw(rt, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(rt, "ns")).UTC()))
		return
	case json.RawMessage:
		v.SetBytes([]byte(rapid.SampledFrom([]string{`{}`, `{"a":[1,"<"]}`, `null`}).Draw(rt, "raw")))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.String().Draw(rt, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(rt, "truth"))
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(rapid.Int32().Draw(rt, "number")))
	case reflect.Float64:
		v.SetFloat(rapid.SampledFrom([]float64{0, 1, 0.25, -3, 1e-9, 1e21, 123456.789}).Draw(rt, "fraction"))
	case reflect.Interface:
		if x := rapid.SampledFrom([]any{"text & more", 2.0, 0.125, true, json.Number("12"), []any{1.0, "x"}, map[string]any{"a": nil}}).Draw(rt, "any"); v.NumMethod() == 0 {
			v.Set(reflect.ValueOf(x))
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(rt, "there") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rt, v.Elem())
		}
	case reflect.Slice:
		if rapid.Bool().Draw(rt, "a list") {
			v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 2).Draw(rt, "length"), 2))
		}
		for i := range v.Len() {
			fill(rt, v.Index(i))
		}
	case reflect.Map:
		if rapid.Bool().Draw(rt, "a map") {
			v.Set(reflect.MakeMap(v.Type()))
			for range rapid.IntRange(0, 3).Draw(rt, "entries") {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(rt, key)
				fill(rt, value)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				fill(rt, v.Field(i))
			} else if f.Anonymous { // its own fields are written as the outer one's
				fill(rt, reflect.NewAt(f.Type, v.Field(i).Addr().UnsafePointer()).Elem())
			}
		}
	default:
		rt.Fatalf("no value for a %s is known", v.Type())
	}
}
