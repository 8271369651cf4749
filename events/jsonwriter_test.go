package events_test

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
)

// Every member is what encoding/json would make of it.
func TestMembersAreAsEncodingJSONWritesThem(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		text, number := rapid.String().Draw(rt, "text"), rapid.Float64Range(-1e18, 1e18).Draw(rt, "number")
		at := time.Unix(rapid.Int64Range(-6e10, 2e11).Draw(rt, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(rt, "ns")).UTC()
		texts := rapid.SliceOfN(rapid.String(), 0, 3).Draw(rt, "texts")
		params := map[string]any{text: number, "x": text, "y": true, "z": []any{nil, text}}
		w := events.JSONWriter{B: []byte("{")}
		w.Must("a", text)
		w.Pointed("b", &text)
		w.Pointed("c", nil)
		w.Float("d", number)
		w.Time("e", at)
		w.Texts("f", texts)
		w.Texts("g", nil)
		w.Params("h", params)
		w.Params("i", nil)
		w.OptNames("j", map[string]string{text: text})
		w.Truth("k", false)
		w.Int("l", int64(number))
		w.Other("m", texts)
		got := append(w.B, '}')
		want, err := json.Marshal(struct {
			A string            `json:"a"`
			B *string           `json:"b"`
			C *string           `json:"c"`
			D float64           `json:"d"`
			E time.Time         `json:"e"`
			F []string          `json:"f"`
			G []string          `json:"g"`
			H map[string]any    `json:"h"`
			I map[string]any    `json:"i"`
			J map[string]string `json:"j"`
			K bool              `json:"k"`
			L int64             `json:"l"`
			M []string          `json:"m"`
		}{text, &text, nil, number, at, texts, nil, params, nil, map[string]string{text: text}, false, int64(number), texts})
		if err != nil || w.Bad || string(got) != string(want) {
			rt.Fatalf("written, bad %v:\n%s\nencoding/json: %v\n%s", w.Bad, got, err, want)
		}
	})
}

// What is left out when empty is.
func TestEmptyMembersAreLeftOut(t *testing.T) {
	t.Parallel()
	w := events.JSONWriter{B: []byte("{")}
	w.Text("a", "")
	w.OptInt("b", 0)
	w.Bool("c", false)
	w.OptNames("d", nil)
	if string(w.B) != "{" {
		t.Errorf("written: %s", w.B)
	}
}
