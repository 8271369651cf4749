// `myspinbot keys`: the API keys, written to the log and read from it, so that the first one
// needs none.

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/myspinbot/myspinbot/internal/access"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

const keysUsage = "usage: myspinbot keys [list] [--all] [--json] [--kafka-brokers HOST:PORT]\n" +
	"       myspinbot keys issue NAME [--tenant T] [--scope read,write] [--rate N [--burst N]] [--expires 90d] [--json]\n" +
	"       myspinbot keys revoke ID|NAME [--json]"

// keysFlags are the flags of all forms.
type keysFlags struct {
	verb, word            string
	tenant, scope, expiry string
	rate                  float64
	burst                 int
	all, asJSON           bool
}

// runKeys is `myspinbot keys`: 0 fine, 1 failed, 2 wrong usage.
func runKeys(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var k keysFlags
	f := flag.NewFlagSet("keys", flag.ContinueOnError)
	f.StringVar(&k.tenant, "tenant", "default", "whose things the key is about")
	f.StringVar(&k.scope, "scope", "read,write", "what it may do: read, write, operate (lanes, workers, metrics)")
	f.Float64Var(&k.rate, "rate", 0, "requests a second over time, in each API process; 0: no limit")
	f.IntVar(&k.burst, "burst", 100, "requests at once, with --rate")
	f.StringVar(&k.expiry, "expires", "", "how long it holds, such as 90d or 12h; default: until it is revoked")
	f.BoolVar(&k.all, "all", false, "list those that were revoked or have expired, too")
	f.BoolVar(&k.asJSON, "json", false, "print JSON")
	cfg, verb, words, status, ok := verbConfig(keysUsage, f, args, stdout, stderr)
	if !ok {
		return status
	}
	k.verb = verb
	if !slices.Contains([]string{"list", "issue", "revoke"}, k.verb) || len(words) != map[string]int{"issue": 1, "revoke": 1}[k.verb] {
		fmt.Fprintln(stderr, keysUsage)
		return 2
	}
	if len(words) > 0 {
		k.word = words[0]
	}
	if err := k.run(ctx, cfg, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "myspinbot keys: %v\n", err)
		return 1
	}
	return 0
}

func (k keysFlags) run(ctx context.Context, cfg Config, stdout, stderr io.Writer) error {
	order, err := k.order()
	if err != nil {
		return err
	}
	log, err := openChecked(ctx, cfg, stderr)
	if err != nil {
		return err
	}
	defer log.Close()
	now := time.Now()
	if k.verb == "issue" {
		return k.issue(ctx, log, order, now, stdout, stderr)
	}
	keys, err := access.List(ctx, log, func(id string, err error) {
		fmt.Fprintf(stderr, "the key %s cannot be read and opens nothing: %s\n", printable(id), printable(err.Error()))
	})
	if err != nil {
		return err
	}
	if k.verb == "revoke" {
		return k.revoke(ctx, log, keys, now, stdout)
	}
	return k.list(keys, now, stdout)
}

// order is what the flags ask for.
func (k keysFlags) order() (access.Order, error) {
	scopes, err := access.ParseScopes(splitList(k.scope))
	if err != nil {
		return access.Order{}, fmt.Errorf("--scope: %w", err)
	}
	life, err := parseDays(k.expiry)
	if err != nil {
		return access.Order{}, fmt.Errorf("--expires: %w", err)
	}
	return access.Order{Name: k.word, Tenant: k.tenant, Scopes: scopes, PerSecond: k.rate, Burst: k.burst, For: life}, nil
}

// parseDays reads a duration, which may be in days.
func parseDays(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	days, isDays := strings.CutSuffix(text, "d")
	n, err := strconv.ParseUint(days, 10, 16)
	d := time.Duration(n) * 24 * time.Hour //nolint:gosec // 16 bits
	if !isDays {
		d, err = time.ParseDuration(text)
	}
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is not a time to come: give days or hours, such as 90d or 12h", text)
	}
	return d, nil
}

// issue prints the key alone on stdout, for scripts, and what it is beside it.
func (k keysFlags) issue(ctx context.Context, log *eventlog.Log, order access.Order, now time.Time, stdout, stderr io.Writer) error {
	text, key, err := access.Issue(ctx, log, order, now)
	if err != nil {
		return err
	}
	if k.asJSON {
		return printJSON(stdout, issuedDoc{keyDocOf(key, now), text})
	}
	fmt.Fprintf(stderr, "key %s (%s) of tenant %s may %s%s. It is shown this once:\n", key.Name, key.ID, key.Tenant, key.Scopes, until(key))
	_, err = fmt.Fprintln(stdout, text)
	return err
}

func until(key access.Key) string {
	if key.Expires.IsZero() {
		return ""
	}
	return " until " + key.Expires.Local().Format(time.DateTime)
}

func (k keysFlags) revoke(ctx context.Context, log *eventlog.Log, keys []access.Key, now time.Time, stdout io.Writer) error {
	key, err := k.meant(keys)
	if err != nil {
		return err
	}
	if err := access.Revoke(ctx, log, key, now); err != nil {
		return fmt.Errorf("cannot revoke the key: %w", err)
	}
	key.Revoked, key.RevokedAt = true, now
	if k.asJSON {
		return printJSON(stdout, keyDocOf(key, now))
	}
	_, err = fmt.Fprintf(stdout, "key %s (%s) opens nothing any more\n", printable(key.Name), printable(key.ID))
	return err
}

// meant is the key with the id, or the only one with the name that is not revoked.
func (k keysFlags) meant(keys []access.Key) (access.Key, error) {
	var found []access.Key
	for _, key := range keys {
		switch {
		case key.ID == k.word && key.Revoked:
			return access.Key{}, fmt.Errorf("the key %s is revoked already", key.ID)
		case key.ID == k.word || key.Name == k.word && !key.Revoked:
			found = append(found, key)
		}
	}
	switch len(found) {
	case 0:
		return access.Key{}, fmt.Errorf("there is no key %q that is not revoked; `myspinbot keys list` prints all", k.word)
	case 1:
		return found[0], nil
	}
	ids := make([]string, len(found))
	for i, key := range found {
		ids[i] = key.ID
	}
	return access.Key{}, fmt.Errorf("several keys are called %q; revoke one by its id: %s", k.word, strings.Join(ids, ", "))
}

// apiKeyDoc is a key as JSON.
type apiKeyDoc struct {
	ID                string     `json:"id"`
	Name              string     `json:"name"`
	Tenant            string     `json:"tenant"`
	State             string     `json:"state"`            // valid, expired, revoked
	Scopes            []string   `json:"scopes,omitempty"` // of a revoked key nothing of this is kept
	RequestsPerSecond float64    `json:"requests_per_second,omitempty"`
	Burst             int        `json:"burst,omitempty"`
	IssuedAt          *time.Time `json:"issued_at,omitempty"`
	ExpiresAt         *time.Time `json:"expires_at,omitempty"`
	RevokedAt         *time.Time `json:"revoked_at,omitempty"`
}

type issuedDoc struct {
	apiKeyDoc
	Key string `json:"key"`
}

func keyDocOf(k access.Key, now time.Time) apiKeyDoc {
	doc := apiKeyDoc{ID: k.ID, Name: k.Name, Tenant: k.Tenant, State: "valid", RequestsPerSecond: k.PerSecond, Burst: k.Burst,
		IssuedAt: given(k.IssuedAt), ExpiresAt: given(k.Expires), RevokedAt: given(k.RevokedAt)}
	if k.Scopes != 0 {
		doc.Scopes = k.Scopes.Names()
	}
	switch {
	case k.Revoked:
		doc.State = "revoked"
	case k.Expired(now):
		doc.State = "expired"
	}
	return doc
}

// given is nil for no time.
func given(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (k keysFlags) list(keys []access.Key, now time.Time, stdout io.Writer) error {
	docs := []apiKeyDoc{}
	for _, key := range keys {
		if doc := keyDocOf(key, now); k.all || doc.State == "valid" {
			docs = append(docs, doc)
		}
	}
	if k.asJSON {
		return printJSON(stdout, map[string]any{"items": docs})
	}
	if len(docs) == 0 {
		fmt.Fprintln(stdout, "no keys; `myspinbot keys issue NAME` makes one")
		return nil
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tTENANT\tSCOPES\tRATE\tISSUED\tEXPIRES\tSTATE")
	for _, d := range docs {
		rate := ""
		if d.RequestsPerSecond > 0 {
			rate = fmt.Sprintf("%g/s, %d", d.RequestsPerSecond, d.Burst)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(d.ID), printable(d.Name), printable(d.Tenant), strings.Join(d.Scopes, ","), rate, local(d.IssuedAt), local(d.ExpiresAt), d.State)
	}
	return t.Flush()
}

func local(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Local().Format(time.DateTime)
}
