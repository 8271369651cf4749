package logfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
	"github.com/myspinbot/myspinbot/internal/logfile"
)

func newLog(t testing.TB, partitions int) *eventlog.Log {
	t.Helper()
	_, cfg := eventlogtest.Fake(t)
	cfg.Partitions = partitions
	return eventlogtest.Open(t, cfg)
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// key is a key of a partition among three.
func key(partition int32, name string) string {
	for i := 0; ; i++ {
		if k := fmt.Sprint(name, i); eventlog.PartitionFor(k, 3) == partition {
			return k
		}
	}
}

// sample is a log with everything that makes a history hard to carry: gaps of all
// lengths, values that are no JSON or hold every kind of byte, none at all, headers that
// come twice, lanes.
func sample(t testing.TB) *eventlog.Log {
	t.Helper()
	log := newLog(t, 3)
	w, err := log.NewRestorer("sample", nil)
	ok(t, err)
	defer w.Close()
	at := began
	write := func(topic string, partition int32, gap int64, offset int64, values ...[]byte) {
		t.Helper()
		var rs []eventlog.Record
		for i, v := range values {
			at = at.Add(time.Second)
			k := key(partition, "job")
			if i%2 == 1 {
				k = key(partition, "another \"key\" é ")
			}
			rs = append(rs, eventlog.Record{Topic: topic, Partition: partition, Offset: offset + int64(i), Key: k, Value: v, Time: at, Headers: []eventlog.Header{
				{Key: "ce_time", Value: at.Format(time.RFC3339Nano)}, {Key: "twice", Value: "a"}, {Key: "twice", Value: ""}, {Key: eventlog.HeaderSourceOffset, Value: "17"}}})
		}
		ok(t, w.Write(t.Context(), rs, gap))
	}
	one := []byte(`{"a": "<é>", "n":1.0}`)
	write(events.TopicJobEvents, 0, 1, 0, one, one, one)
	write(events.TopicJobEvents, 0, 2, 4, []byte("no JSON"), []byte("{\"a\":\n1}"))
	write(events.TopicJobEvents, 0, 5, 8, []byte{0, 255, 10, 13}, []byte(" 1 "), []byte("null"), []byte{}, nil)
	write(events.TopicJobEvents, 0, 0, 18, one)
	write(events.TopicJobEvents, 2, 0, 40, slices.Repeat([][]byte{one}, 1200)...)
	write(events.TopicJobCommands, 1, 0, 0, one, one)
	write(events.TopicProfileEvents, 0, 3, 0, one)
	write(events.TopicProfileEvents, 1, 1, 0, one)
	ok(t, w.Skip(t.Context(), eventlog.TopicPartition{Topic: events.TopicTaskEvents, Partition: 2}, 70)) // its records are gone
	write(events.TopicDeadLetters, 1, 0, 2, one)
	write(events.LaneTopic(events.LaneTTS), 1, 1, 0, one)
	return log
}

func export(t testing.TB, log *eventlog.Log, s logfile.Selection) string {
	t.Helper()
	var b bytes.Buffer
	n, err := logfile.Export(t.Context(), log, &b, s)
	ok(t, err)
	if lines := strings.Count(b.String(), "\n"); int64(lines) != n+2 {
		t.Errorf("%d lines of %d records", lines, n)
	}
	return b.String()
}

func load(ctx context.Context, log *eventlog.Log, text string, o logfile.Options) (logfile.Imported, error) {
	return logfile.Import(ctx, log, strings.NewReader(text), int64(len(text)), o)
}

func everything() logfile.Selection {
	return logfile.Selection{Topics: append(logfile.Topics(), events.LaneTopic(events.LaneTTS))}
}

func TestAHistoryComesOutAsItWentIn(t *testing.T) {
	t.Parallel()
	text := export(t, sample(t), everything())
	into := newLog(t, 3)
	var done, total int64
	got, err := load(t.Context(), into, text, logfile.Options{Report: func(d, of int64) { done, total = d, of }})
	ok(t, err)
	if !got.Kept || got.Records != 1217 || done != 1217 || total != 1217 {
		t.Errorf("imported %+v, told %d of %d", got, done, total)
	}
	if again := export(t, into, everything()); again != text {
		t.Errorf("the second export differs:\n%.2000s\nwant\n%.2000s", again, text)
	}
	for tp, end := range map[eventlog.TopicPartition]int64{{Topic: events.TopicJobEvents, Partition: 0}: 19, {Topic: events.TopicProfileEvents, Partition: 0}: 4,
		{Topic: events.TopicProfileEvents, Partition: 1}: 2, {Topic: events.TopicTaskEvents, Partition: 2}: 70} {
		eventlogtest.Eventually(t, time.Minute, fmt.Sprint(tp, " ends where it did"), func() bool { // the last marker may come late
			ranges, err := into.Ranges(t.Context(), tp.Topic)
			return err == nil && ranges[tp].Stable == end && ranges[tp].End == end
		})
	}
	_, err = load(t.Context(), into, text, logfile.Options{})
	if !errors.Is(err, logfile.ErrNotEmpty) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("into a log that is not empty: %v", err)
	}
	before := read(t, into)
	if got, err = load(t.Context(), into, text, logfile.Options{Force: true}); err != nil || got.Kept || got.Why != "the log is not empty" {
		t.Errorf("with force: %+v, %v", got, err)
	}
	for k, values := range read(t, into) {
		if want := 2 * len(before[k]); len(values) != want && !strings.HasPrefix(k, events.TopicDeadLetters) {
			t.Errorf("%s has %d records, want %d", k, len(values), want)
		}
	}
}

// read is the values of each topic and key, in their order.
func read(t testing.TB, log *eventlog.Log) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	_, err := log.Read(t.Context(), log.Whole(everything().Topics...), func(rs []eventlog.Record) error {
		for _, r := range rs {
			k := r.Topic + " " + r.Key
			out[k] = append(out[k], fmt.Sprintf("%q %v", r.Value, r.Time.UTC()))
			if r.Topic != events.LaneTopic(events.LaneTTS) && r.Partition != eventlog.PartitionFor(r.Key, log.Partitions(r.Topic)) {
				t.Errorf("%s lies in partition %d", k, r.Partition)
			}
		}
		return nil
	})
	ok(t, err)
	return out
}

func TestOtherPartitionsKeepTheOrderOfEveryKey(t *testing.T) {
	t.Parallel()
	from := sample(t)
	text := export(t, from, everything())
	want := read(t, from)
	maps.DeleteFunc(want, func(k string, _ []string) bool { return strings.HasPrefix(k, events.TopicDeadLetters) })
	for _, partitions := range []int{1, 2, 5} {
		into := newLog(t, partitions)
		got, err := load(t.Context(), into, text, logfile.Options{})
		ok(t, err)
		if got.Kept || !strings.Contains(got.Why, fmt.Sprintf("has 3 partitions in the file and %d here", partitions)) || got.LeftOut != 1 || got.Records != 1216 {
			t.Errorf("%d partitions: %+v", partitions, got)
		}
		if have := read(t, into); !maps.EqualFunc(have, want, slices.Equal[[]string]) {
			t.Errorf("%d partitions: the keys hold something else", partitions)
		}
		last := map[eventlog.TopicPartition]time.Time{}
		_, err = into.Read(t.Context(), into.Whole(events.TopicJobEvents), func(rs []eventlog.Record) error {
			for _, r := range rs {
				if r.Time.Before(last[r.At()]) || r.Header(eventlog.HeaderSourceOffset) != "" {
					t.Errorf("at %v offset %d: %v after %v, headers %v", r.At(), r.Offset, r.Time, last[r.At()], r.Headers)
				}
				last[r.At()] = r.Time
			}
			return nil
		})
		ok(t, err)
	}
	if got, err := load(t.Context(), newLog(t, 3), text, logfile.Options{Renumber: true}); err != nil || got.Kept || got.Why != "that was asked for" {
		t.Errorf("renumbered: %+v, %v", got, err)
	}
}

func TestPartsOfAHistory(t *testing.T) {
	t.Parallel()
	log := sample(t)
	whole := export(t, log, logfile.Selection{})
	if strings.Contains(whole, events.LaneTopic(events.LaneTTS)) || !strings.Contains(whole, `"topic":"deadletters"`) {
		t.Error("the topics of a history are not those that were promised")
	}
	job := key(1, "job")
	for name, c := range map[string]struct {
		s    logfile.Selection
		want int
		of   string
	}{
		"one job":       {logfile.Selection{Key: job}, 3, `"key":"` + job + `"`},
		"nobody":        {logfile.Selection{Key: "nobody"}, 0, "never"},
		"one topic":     {logfile.Selection{Topics: []string{events.TopicJobCommands}}, 2, `"topic":"jobs.commands"`},
		"from a time":   {logfile.Selection{Since: began.Add(1214 * time.Second)}, 3, `"time":"2026-03-01T12:20:1`},
		"up to a time":  {logfile.Selection{Until: began.Add(4 * time.Second)}, 4, `"partition":0`},
		"between times": {logfile.Selection{Since: began.Add(2 * time.Second), Until: began.Add(3 * time.Second)}, 2, `"offset":`},
	} {
		text := export(t, log, c.s)
		if n := strings.Count(text, "\n") - 2; n != c.want || strings.Count(text, c.of) < c.want {
			t.Errorf("%s: %d records, want %d with %s:\n%.500s", name, n, c.want, c.of, text)
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, `"topic"`) && !strings.Contains(whole, line) {
				t.Errorf("%s: this line is none of the whole: %s", name, line)
			}
		}
	}
	if _, err := logfile.Export(t.Context(), log, &bytes.Buffer{}, logfile.Selection{Topics: []string{"jobs.event"}}); err == nil || !strings.Contains(err.Error(), `no topic "jobs.event"`) {
		t.Errorf("an unknown topic: %v", err)
	}
	// One job alone goes where it lay, whatever was around it.
	into := newLog(t, 3)
	text := export(t, log, logfile.Selection{Key: key(2, "job")})
	got, err := load(t.Context(), into, text, logfile.Options{})
	ok(t, err)
	if again := export(t, into, logfile.Selection{}); !got.Kept || strings.Count(again, "\n") != strings.Count(text, "\n") || !strings.Contains(again, `"partition":2,"offset":40,`) {
		t.Errorf("one job: %+v\n%.500s", got, again)
	}
}

func TestFilesThatAreNoHistory(t *testing.T) {
	t.Parallel()
	log, into := sample(t), newLog(t, 3)
	good := export(t, log, logfile.Selection{Topics: []string{events.TopicJobCommands}})
	lines := strings.SplitAfter(good, "\n")
	with := func(n int, old, now string) string {
		changed := slices.Clone(lines)
		if !strings.Contains(changed[n-1], old) {
			t.Fatalf("line %d has no %s: %s", n, old, changed[n-1])
		}
		changed[n-1] = strings.Replace(changed[n-1], old, now, 1)
		return strings.Join(changed, "")
	}
	job := key(1, "job")
	for name, c := range map[string]struct{ text, says string }{
		"ends of other partitions":  {with(1, `"ends":{"jobs.commands":[0,`, `"ends":{"jobs.commands":[`), "line 1: jobs.commands has 3 partitions and 2 ends"},
		"a record behind the end":   {with(1, `[0,2,0]`, `[0,1,0]`), "line 4: jobs.commands/1 ends at offset 1 by the first line and has a record at 1"},
		"nothing":                   {"", "it ends after 0 records without its last line"},
		"another file":              {"topic,partition\n", "line 1: a history starts with"},
		"another JSON":              {`{"topic":"jobs.commands"}`, "line 1: a history starts with"},
		"a newer format":            {with(1, `_history":1`, `_history":2`), "line 1: the file has format 2, this program reads 1; update"},
		"a cut file":                {strings.Join(lines[:3], ""), "it ends after 2 records without its last line"},
		"a cut line":                {good[:len(good)-len(lines[3])-9], "line 3: it is no JSON line"},
		"a lost record":             {lines[0] + lines[1] + lines[3], "line 3: the file held 2 records and now has 1"},
		"an empty line":             {lines[0] + "\n" + strings.Join(lines[1:], ""), "line 2: it is no JSON line"},
		"two files":                 {good + good, "line 5: something follows the last line"},
		"two in one":                {lines[0] + lines[0] + strings.Join(lines[1:], ""), "line 2: a second first line"},
		"two objects":               {with(2, "}\n", "}{}\n"), "line 2: something follows the JSON object"},
		"an unknown member":         {with(2, `"topic"`, `"tpoic":1,"topic"`), `line 2: it is no JSON line of a history: json: unknown field "tpoic"`},
		"no topic":                  {with(2, `"topic":"jobs.commands",`, ""), "line 2: it names no topic"},
		"another topic":             {with(3, `jobs.commands`, "jobs.events"), `line 3: topic "jobs.events" is not among those of the first line`},
		"a topic of nobody":         {strings.ReplaceAll(good, "jobs.commands", "jobs.wishes"), `this log has no topic "jobs.wishes"`},
		"a partition too far":       {with(2, `"partition":1`, `"partition":3`), "line 2: partition 3 is not among the 3 of jobs.commands"},
		"another partition":         {with(2, `"partition":1`, `"partition":2`), fmt.Sprintf("line 2: key %q belongs in partition 1 of jobs.commands, not in 2", job)},
		"offsets that do not grow":  {with(3, `"offset":1`, `"offset":0`), "line 3: offset 0 of jobs.commands/1 follows offset 0"},
		"an offset below 0":         {with(2, `"offset":0`, `"offset":-1`), "line 2: offset -1"},
		"no time":                   {with(2, `"time":"2026-03-01T12:20:12Z",`, ""), "line 2: it has no time"},
		"two values":                {with(2, `"value":`, `"value_base64":"AA==","value":`), "line 2: it has value and value_base64"},
		"offsets that no log keeps": {strings.NewReplacer(`"offset":0`, `"offset":1`, `"offset":1`, `"offset":2`, "[0,2,0]", "[0,3,0]").Replace(good), "the offsets cannot be kept"},
	} {
		_, err := load(t.Context(), into, c.text, logfile.Options{})
		if err == nil || !strings.Contains(err.Error(), c.says) || !errors.Is(err, logfile.ErrFile) && !errors.Is(err, eventlog.ErrNotRestorable) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	if got := read(t, into); len(got) > 0 {
		t.Errorf("something was written all the same: %v", got)
	}
	if _, err := load(t.Context(), into, good, logfile.Options{}); err != nil {
		t.Errorf("the file itself: %v", err)
	}
}
