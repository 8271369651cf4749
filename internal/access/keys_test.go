// Tests of keys: who is let in, from the first record to the last.

package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var quiet = slog.New(slog.DiscardHandler)

// house is what the log says of keys, beside the table that is to agree with it.
type house struct {
	keys   *Keys
	now    time.Time
	texts  []string
	ids    []string
	expiry []time.Time // zero: never
	open   []bool      // issued and not ended
	lasts  []context.Context
}

func newHouse() *house {
	k := NewKeys(nil, quiet)
	k.whole = true
	return &house{keys: k, now: time.Unix(1_800_000_000, 0)}
}

// issue has a new key hold for a time; 0: for ever.
func (h *house) issue(t interface{ Fatal(...any) }, life time.Duration) int {
	id, text, n := uuid.Must(uuid.NewV7()).String(), newKey(), len(h.texts)
	r, err := IssuedAs(text, id, Order{Name: fmt.Sprint("k", n), Tenant: "acme", Scopes: Read, For: life}, h.now)
	if err != nil {
		t.Fatal(err)
	}
	h.keys.apply([]eventlog.Record{r})
	g := h.keys.grants[h.keys.ids[id]]
	ctx, cancel := context.WithCancel(g.held) // not its deadline, which is of another clock
	_ = cancel
	var expires time.Time
	if life > 0 {
		expires = time.UnixMilli(h.now.Add(life).UnixMilli()) // as the log holds it
	}
	h.texts, h.ids, h.expiry, h.open, h.lasts = append(h.texts, text), append(h.ids, id), append(h.expiry, expires), append(h.open, true), append(h.lasts, ctx)
	return n
}

// end has a key end by a record, in one of the ways that there are.
func (h *house) end(t interface{ Fatal(...any) }, n int, way string) {
	r, err := recordOf(h.ids[n], "acme", events.APIKeyRevoked{Name: fmt.Sprint("k", n)}, h.now)
	if err != nil {
		t.Fatal(err)
	}
	switch way {
	case "erased": // the record's key has no value any more
		r.Value = nil
	case "garbage":
		r.Value = []byte(`{"event_type":`)
	case "newer":
		r.Value = []byte(strings.Replace(string(r.Value), `"schema_version":1`, `"schema_version":9`, 1))
	case "another kind":
		if r.Value, err = events.Encode(events.Message{ID: "a", AggregateType: events.AggregateLane, AggregateID: h.ids[n], OccurredAt: h.now, Tenant: "acme", Data: events.LanePaused{}}); err != nil {
			t.Fatal(err)
		}
	}
	h.keys.apply([]eventlog.Record{r})
	h.open[n] = false
}

// TestOnlyTheTextOfAKeyThatHoldsIsLetIn draws what happens to keys, and then tries their
// texts, and texts that are close to them.
func TestOnlyTheTextOfAKeyThatHoldsIsLetIn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := newHouse()
		t.Repeat(map[string]func(*rapid.T){
			"issue": func(t *rapid.T) {
				h.issue(t, rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Minute, time.Hour}).Draw(t, "life"))
			},
			"end": func(t *rapid.T) {
				if len(h.ids) > 0 {
					h.end(t, rapid.IntRange(0, len(h.ids)-1).Draw(t, "key"), rapid.SampledFrom([]string{"revoked", "erased", "garbage", "newer", "another kind"}).Draw(t, "way"))
				}
			},
			"time goes by": func(t *rapid.T) { h.now = h.now.Add(time.Duration(rapid.Int64Range(0, 40*60e9).Draw(t, "ns"))) },
			"pause a lane": func(*rapid.T) {
				h.keys.apply([]eventlog.Record{{Topic: events.TopicSettings, Key: events.LaneKey("tts"), Value: []byte("not one of ours")}})
			},
			"": func(t *rapid.T) {
				for n, text := range h.texts {
					holds := h.open[n] && (h.expiry[n].IsZero() || h.now.Before(h.expiry[n]))
					g, err := h.keys.Find([]byte(text), h.now)
					if holds != (err == nil) || err != nil && !errors.Is(err, ErrInvalid) || err == nil && (g.Actor != fmt.Sprint("key:k", n) || g.Tenant != "acme" || g.Scopes != Read) {
						t.Fatalf("key %d holds: %v; found %+v, %v", n, holds, g, err)
					}
					if over := h.lasts[n].Err() != nil; over == h.open[n] {
						t.Fatalf("key %d is open: %v; its streams are over: %v", n, h.open[n], over)
					}
					close := closeTo(t, text)
					if g, err := h.keys.Find([]byte(close), h.now); err == nil {
						t.Fatalf("%q opens what is for %q alone: %+v", close, text, g)
					}
				}
			},
		})
	})
}

// closeTo is a text that is nearly a key.
func closeTo(t *rapid.T, text string) string {
	at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
	switch rapid.IntRange(0, 6).Draw(t, "how") {
	case 0:
		return text[:at]
	case 1:
		return text[:at] + text[at+1:]
	case 2:
		return text + rapid.SampledFrom([]string{" ", "=", "\n", "\x00", "A"}).Draw(t, "more")
	case 3:
		return " " + text
	case 4: // the bits that base64 leaves over
		last := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		return text[:len(text)-1] + string(last[strings.IndexByte(last, text[len(text)-1])^1])
	case 5:
		return strings.TrimPrefix(text, keyMark)
	}
	return text[:at] + string(text[at]^0x20) + text[at+1:]
}

func TestBeforeTheLogIsReadNobodyIsRefused(t *testing.T) {
	t.Parallel()
	h := newHouse()
	n := h.issue(t, 0)
	h.keys.whole = false
	for _, text := range []string{h.texts[n], "msb_nothing", ""} {
		if _, err := h.keys.Find([]byte(text), h.now); !errors.Is(err, ErrUnread) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAGrantLastsUntilItsExpiry(t *testing.T) {
	t.Parallel()
	k := Key{Name: "a", Tenant: "acme", Scopes: Read, Expires: time.Now().Add(50 * time.Millisecond)}
	ctx, cancel := k.grant().Lasts()
	defer cancel()
	select {
	case <-ctx.Done():
	case <-time.After(eventlogtest.Patience):
		t.Fatal("it lasts longer")
	}
}

func TestRecordsThatMeanNoKeyOpenNothing(t *testing.T) {
	t.Parallel()
	id, now := uuid.Must(uuid.NewV7()).String(), time.Now()
	text := newKey()
	good, err := IssuedAs(text, id, Order{Name: "ada", Tenant: "acme", Scopes: Read | Write}, now)
	ok(t, err)
	for name, change := range map[string]func(r *eventlog.Record, data map[string]any){
		"an unknown scope":    func(_ *eventlog.Record, d map[string]any) { d["scopes"] = []string{"read", "everything"} },
		"no scope":            func(_ *eventlog.Record, d map[string]any) { d["scopes"] = []string{} },
		"a short digest":      func(_ *eventlog.Record, d map[string]any) { d["digest"] = "00" },
		"a long digest":       func(_ *eventlog.Record, d map[string]any) { d["digest"] = strings.Repeat("00", 33) },
		"another tenant":      func(_ *eventlog.Record, d map[string]any) { d["tenant"] = "evil" },
		"a name with a break": func(_ *eventlog.Record, d map[string]any) { d["name"] = "a\nb" },
		"another's record":    func(r *eventlog.Record, _ map[string]any) { r.Key = events.APIKeyKey("other") },
	} {
		r := good
		var whole map[string]any
		ok(t, json.Unmarshal(good.Value, &whole))
		change(&r, whole["data"].(map[string]any))
		r.Value, err = json.Marshal(whole)
		ok(t, err)
		h := newHouse()
		h.keys.apply([]eventlog.Record{r})
		if g, err := h.keys.Find([]byte(text), now); err == nil {
			t.Errorf("%s: %+v", name, g)
		}
	}
	h := newHouse()
	h.keys.apply([]eventlog.Record{good})
	if _, err := h.keys.Find([]byte(text), now); err != nil {
		t.Errorf("the record as it is: %v", err)
	}
}

func TestOrdersThatCannotBe(t *testing.T) {
	t.Parallel()
	good := Order{Name: "ada.laptop@home", Tenant: "acme", Scopes: Read, PerSecond: 2, Burst: 5, For: time.Hour}
	ok(t, checkOrder(good))
	for want, change := range map[string]func(*Order){
		"cannot be called":      func(o *Order) { o.Name = "a b" },
		"and no id":             func(o *Order) { o.Name = uuid.NewString() },
		`and not "keys"`:        func(o *Order) { o.Tenant = "keys" },
		"a tenant cannot be":    func(o *Order) { o.Tenant = "../acme" },
		"without a scope":       func(o *Order) { o.Scopes = 0 },
		"requests a second":     func(o *Order) { o.PerSecond = -1 },
		"the burst must":        func(o *Order) { o.Burst = 0 },
		"within a hundred year": func(o *Order) { o.For = -1 },
	} {
		o := good
		change(&o)
		if err := checkOrder(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
}

// TestKeysGoOverTheLog issues and revokes where another process follows, and a third comes later.
func TestKeysGoOverTheLog(t *testing.T) {
	t.Parallel()
	_, cfg := eventlogtest.Fake(t)
	log := eventlogtest.Open(t, cfg)
	follow := func() *Keys {
		k, ended := NewKeys(log, quiet), make(chan error, 1)
		ctx, cancel := context.WithCancel(context.Background())
		go func() { ended <- k.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		return k
	}
	first := follow()
	eventlogtest.Eventually(t, eventlogtest.Patience, "the empty log is read", func() bool {
		_, err := first.Find(nil, time.Now())
		return errors.Is(err, ErrInvalid)
	})
	text, key, err := Issue(t.Context(), log, Order{Name: "ada", Tenant: "acme", Scopes: Read | Operate, PerSecond: 2, Burst: 1, For: time.Hour}, time.Now())
	ok(t, err)
	holds := func(k *Keys) bool { _, err := k.Find([]byte(text), time.Now()); return err == nil }
	eventlogtest.Eventually(t, eventlogtest.Patience, "the key holds", func() bool { return holds(first) })
	g, err := first.Find([]byte(text), time.Now())
	ok(t, err)
	if g.Take(time.Now()) > 0 || g.Take(time.Now()) <= 0 || g.PerSecond() != 2 {
		t.Error("it has no pace of its own")
	}
	if ctx, cancel := g.Lasts(); ctx.Err() != nil {
		t.Error("it is over at once")
	} else {
		defer cancel()
		ok(t, Revoke(t.Context(), log, key, time.Now()))
		select {
		case <-ctx.Done():
		case <-time.After(eventlogtest.Patience):
			t.Error("a revoked key lasts")
		}
	}
	later := follow()
	eventlogtest.Eventually(t, eventlogtest.Patience, "a later process has read all", func() bool {
		_, err := later.Find([]byte(text), time.Now())
		return errors.Is(err, ErrInvalid)
	})
	if holds(first) {
		t.Error("the key holds still")
	}
	other, _, err := Issue(t.Context(), log, Order{Name: "bo", Tenant: "acme", Scopes: Write}, time.Now())
	ok(t, err)
	keys, err := List(t.Context(), log, func(id string, err error) { t.Error(id, err) })
	ok(t, err)
	if len(keys) != 2 || !keys[0].Revoked || keys[0].ID != key.ID || keys[0].Name != "ada" || keys[0].Tenant != "acme" || keys[1].Revoked || keys[1].Scopes != Write {
		t.Errorf("listed are %+v", keys)
	}
	// The log holds neither.
	_, err = log.Read(t.Context(), log.Whole(events.TopicSettings), func(rs []eventlog.Record) error {
		for _, r := range rs {
			for _, secret := range []string{text, other} {
				if all := r.Key + string(r.Value) + fmt.Sprint(r.Headers); strings.Contains(all, secret) || strings.Contains(all, strings.TrimPrefix(secret, keyMark)) {
					t.Errorf("the log shows a key: %s", all)
				}
			}
		}
		return nil
	})
	ok(t, err)
}

func TestKeysAreDrawnAnew(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		seen[newKey()] = true
	}
	if one := slices.Collect(maps.Keys(seen))[0]; len(seen) != 1000 || len(one) != len(keyMark)+43 {
		t.Errorf("%d different keys, such as %q", len(seen), one)
	}
}

func TestScopesAreASet(t *testing.T) {
	t.Parallel()
	s, err := ParseScopes([]string{"operate", "read"})
	if err != nil || s.String() != "read,operate" || s.Has(Write) || !s.Has(Read|Operate) {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := ParseScopes([]string{"admin"}); err == nil || !strings.Contains(err.Error(), "read, write, operate") {
		t.Error(err)
	}
}

func BenchmarkFind(b *testing.B) {
	h := newHouse()
	for range 1000 {
		h.issue(b, time.Hour)
	}
	text := []byte(h.texts[500])
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.keys.Find(text, h.now); err != nil {
			b.Fatal(err)
		}
	}
}
