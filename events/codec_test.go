// The wire form: goldens of every type and version, round trips, bad records.

package events_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
)

var update = flag.Bool("update", false, "write goldens that do not exist yet; existing ones are never changed")

// filled makes a payload with every field set, so that a golden shows the whole shape.
func filled(t *testing.T, zero events.Payload) events.Payload {
	t.Helper()
	v := reflect.New(reflect.TypeOf(zero)).Elem()
	fill(v, 1)
	return v.Interface().(events.Payload)
}

func fill(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("text")
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte("sealed"))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth)
	case reflect.Map:
		e := reflect.New(v.Type().Elem()).Elem()
		if e.Kind() == reflect.Interface {
			e.Set(reflect.ValueOf("value"))
		} else {
			fill(e, depth)
		}
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("name"), e)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)))
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), depth+1)
			}
		}
	}
}

func message(p events.Payload) events.Message {
	return events.Message{
		ID: "01890a5d-ac96-774b-bcce-b302099a8057", SchemaVersion: p.SchemaVersion(), AggregateType: events.AggregateJob,
		AggregateID: "6a3f0c1e-3b1f-5c0a-9b52-0d9f5a3f2f11", Version: 3, PrevID: "01890a5d-ac96-774b-bcce-b302099a8056",
		OccurredAt: time.Date(2026, 11, 1, 12, 0, 0, 123456789, time.UTC), CommandID: "c", CausationID: "d", CorrelationID: "e",
		Tenant: "default", Actor: "key:alice",
		Columns: events.Columns{JobID: "6a3f0c1e-3b1f-5c0a-9b52-0d9f5a3f2f11", Stage: "tts", Task: "tts.synthesize", Attempt: 1, State: "running",
			Variant: "sadtalker", Lane: "tts", Worker: "w1", Model: "slt", DurationMS: 1200, ErrorClass: "oom", ArtifactURI: "s3://b/k", ArtifactSHA256: "00"},
		Data: p,
	}
}

// readsOlder checks that a record of an earlier version is read, and that nothing of
// it is lost when it is written anew.
func readsOlder(t *testing.T, path string, version int) {
	t.Helper()
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old, err := events.Decode(bytes.TrimSpace(golden))
	if err != nil || old.SchemaVersion != version {
		t.Fatalf("%s reads as version %d: %v", path, old.SchemaVersion, err)
	}
	value, err := events.Encode(old)
	if err != nil {
		t.Fatal(err)
	}
	if have, want := data(t, value), data(t, golden); !reflect.DeepEqual(have, want) {
		t.Errorf("%s is written anew as\n%v\nwant\n%v", path, have, want)
	}
}

func data(t *testing.T, value []byte) any {
	t.Helper()
	var e struct {
		Data any `json:"data"`
	}
	if err := json.Unmarshal(value, &e); err != nil {
		t.Fatal(err)
	}
	return e.Data
}

// What was once on the wire is read for ever: a golden is added to, never changed.
func TestGoldens(t *testing.T) {
	t.Parallel()
	for _, name := range events.Types() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			zero, err := events.Zero(name)
			if err != nil {
				t.Fatal(err)
			}
			want := message(filled(t, zero))
			path := filepath.Join("testdata", fmt.Sprintf("%s.v%d.json", name, zero.SchemaVersion()))
			value, err := events.Encode(want)
			if err != nil {
				t.Fatal(err)
			}
			golden, err := os.ReadFile(path)
			if errors.Is(err, os.ErrNotExist) && *update {
				golden = append(value, '\n')
				err = os.WriteFile(path, golden, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := events.Decode(bytes.TrimSpace(golden))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s reads as\n%+v\nwant\n%+v", path, got, want)
			}
			if !bytes.Equal(bytes.TrimSpace(golden), value) {
				t.Errorf("%s is written differently now:\n%s\nwant\n%s", path, value, golden)
			}
			for older := 1; older < zero.SchemaVersion(); older++ {
				readsOlder(t, filepath.Join("testdata", fmt.Sprintf("%s.v%d.json", name, older)), older)
			}
		})
	}
}

func TestEveryGoldenIsStillRead(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/*.json")
	if err != nil || len(paths) < len(events.Types()) {
		t.Fatalf("found %d goldens for %d types: %v", len(paths), len(events.Types()), err)
	}
	for _, p := range paths {
		value, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		m, err := events.Decode(value)
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		if !strings.HasPrefix(filepath.Base(p), m.Type()+".v") {
			t.Errorf("%s holds a %s", p, m.Type())
		}
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := message(events.JobFailed{Message: rapid.String().Draw(t, "message")})
		m.Actor = rapid.String().Draw(t, "actor")
		m.Worker = rapid.StringMatching(`[a-z"\\é]*`).Draw(t, "worker")
		m.Attempt = rapid.IntRange(0, 99).Draw(t, "attempt")
		m.OccurredAt = time.Unix(0, rapid.Int64Range(0, 1<<61).Draw(t, "at")).UTC()
		value, err := events.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(value) {
			t.Fatalf("not JSON: %s", value)
		}
		got, err := events.Decode(value)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Fatalf("got %+v, want %+v", got, m)
		}
	})
}

func TestNullColumns(t *testing.T) {
	t.Parallel()
	value, err := events.Encode(events.Message{ID: "i", AggregateID: "a", Data: events.JobSucceeded{}})
	if err != nil {
		t.Fatal(err)
	}
	var flat map[string]any
	if err := json.Unmarshal(value, &flat); err != nil {
		t.Fatal(err)
	}
	for _, column := range []string{"prev_event_id", "job_id", "stage", "task", "attempt", "state", "variant", "lane", "worker", "model", "duration_ms", "error_class", "artifact_uri", "artifact_sha256"} {
		if v, present := flat[column]; !present || v != nil {
			t.Errorf("%s is %v (present %v), want an explicit null", column, v, present)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	good, err := events.Encode(message(events.JobSubmit{}))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		value string
		want  error
	}{
		"no JSON":           {"\x00\x01", events.ErrMalformed},
		"another document":  {`{"hello":"world"}`, events.ErrMalformed},
		"unknown type":      {strings.Replace(string(good), "job.submit", "job.teleport", 1), events.ErrUnknownType},
		"newer version":     {strings.Replace(string(good), `"schema_version":3`, `"schema_version":9`, 1), events.ErrNewerVersion},
		"data of no object": {strings.Replace(string(good), `"data":{`, `"data":[{`, 1), events.ErrMalformed},
		"wrong data":        {strings.Replace(string(good), `"request":{`, `"request":"x","z":{`, 1), events.ErrMalformed},
	} {
		if _, err := events.Decode([]byte(c.value)); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestHeadersAreCloudEvents(t *testing.T) {
	t.Parallel()
	h := map[string]string{}
	for _, e := range events.Headers(message(events.JobSucceeded{})) {
		h[e.Key] = e.Value
	}
	want := map[string]string{
		"ce_specversion": "1.0", "ce_id": "01890a5d-ac96-774b-bcce-b302099a8057", "ce_type": "job.succeeded", "ce_source": "/myspinbot/job",
		"ce_subject": "6a3f0c1e-3b1f-5c0a-9b52-0d9f5a3f2f11", "ce_time": "2026-11-01T12:00:00.123456789Z", "content-type": "application/json",
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("got %v, want %v", h, want)
	}
}
