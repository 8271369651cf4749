// `myspinbot profiles`: the people whose faces and voices jobs use.

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
)

const profilesUsage = "usage: myspinbot profiles [list] [--status active,archived,erasing,erased] [--json] [--server URL]\n" +
	"       myspinbot profiles show ID\n" +
	"       myspinbot profiles create LABEL [--portrait FILE] [--voice FILE [--transcript TEXT | --transcript-file FILE]]\n" +
	"                          [--consent-by NAME --consent-statement TEXT] [--key KEY] [--json]\n" +
	"       myspinbot profiles rename ID LABEL\n" +
	"       myspinbot profiles consent ID --by NAME --statement TEXT   somebody agrees to the use of the profile\n" +
	"       myspinbot profiles withdraw ID    the consent is taken back; no new job uses the profile\n" +
	"       myspinbot profiles archive ID     no new job uses the profile; restore brings it back\n" +
	"       myspinbot profiles restore ID\n" +
	"       myspinbot profiles erase ID --yes   for good: its texts and files, and those of every job that used it"

// personDoc is a profile as the API shows it.
type personDoc struct {
	ID         string     `json:"id"`
	Status     string     `json:"status"`
	Label      *string    `json:"label"`
	Content    string     `json:"content"`
	Transcript *string    `json:"transcript"`
	CreatedAt  time.Time  `json:"created_at"`
	Withdrawn  *time.Time `json:"consent_withdrawn_at"`
	Archived   *time.Time `json:"archived_at"`
	Erased     *time.Time `json:"erased_at"`
	Completed  *time.Time `json:"erasure_completed_at"`
	Consent    *struct {
		By        *string `json:"by"`
		Statement *string `json:"statement"`
	} `json:"consent"`
	Portrait *fileDoc `json:"portrait"`
	Voice    *fileDoc `json:"voice"`
	Lora     *fileDoc `json:"lora"`

	Detail string `json:"detail"` // where the profile cannot be shown yet
}

type fileDoc struct {
	MediaType string  `json:"media_type"`
	Size      int64   `json:"size"`
	Engine    *string `json:"engine"`
	FromJob   *string `json:"from_job"`
}

// profileFlags are those that only some verbs have.
type profileFlags struct {
	status, by, statement string
	yes                   bool
	making                profileMaking
}

func (p *profileFlags) define(f *flag.FlagSet) {
	f.StringVar(&p.status, "status", "", "list: which to list, separated by commas; default active")
	f.StringVar(&p.by, "by", "", "consent: who agrees")
	f.StringVar(&p.statement, "statement", "", "consent: to what")
	f.BoolVar(&p.yes, "yes", false, "erase: nothing brings it back, and that is wanted")
	p.making.define(f)
}

// profileWords is how many words each verb has, itself included.
var profileWords = map[string]int{"list": 1, "show": 2, "create": 2, "rename": 3, "consent": 2, "withdraw": 2, "archive": 2, "restore": 2, "erase": 2}

// runProfiles is `myspinbot profiles`: 0 fine, 1 failed, 2 wrong usage.
func runProfiles(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var p profileFlags
	fits := func(words []string) bool {
		switch {
		case p.making.given() && (len(words) == 0 || words[0] != "create"):
			return false
		case len(words) == 0:
			return true
		case words[0] == "consent" && (p.by == "" || p.statement == ""), words[0] == "erase" && !p.yes:
			return false
		}
		return len(words) == profileWords[words[0]]
	}
	return runAsking(ctx, "profiles", profilesUsage, args, stdout, stderr, fits, func(ctx context.Context, a asker) error {
		if len(a.words) == 0 || a.words[0] == "list" {
			return a.listProfiles(ctx, p.status)
		}
		switch a.words[0] {
		case "show":
			return a.showProfile(ctx, a.words[1])
		case "create":
			return a.createProfile(ctx, p.making)
		}
		return a.changeProfile(ctx, p)
	}, p.define)
}

func (a asker) listProfiles(ctx context.Context, status string) error {
	path := "/api/profiles?limit=200"
	if status != "" {
		path += "&status=" + url.QueryEscape(status)
	}
	var page struct {
		Items []personDoc `json:"items"`
		Next  *string     `json:"next_cursor"`
	}
	if done, err := a.ask(ctx, http.MethodGet, path, nil, &page); err != nil {
		return fmt.Errorf("cannot list the profiles: %w", err)
	} else if done {
		return nil
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROFILE\tSTATUS\tLABEL\tCONSENT\tHAS\tCREATED")
	for _, p := range page.Items {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", printable(p.ID), printable(p.Status), p.name(), p.agreed(), p.has(), p.CreatedAt.Local().Format(time.DateTime))
	}
	if page.Next != nil {
		fmt.Fprintln(t, "older ones are left out; the API has them")
	}
	return t.Flush()
}

func (p personDoc) name() string {
	if p.Label == nil {
		return "-"
	}
	return printable(*p.Label)
}

// agreed says in a word whether the profile may be used.
func (p personDoc) agreed() string {
	switch {
	case p.Consent != nil:
		return "given"
	case p.Withdrawn != nil:
		return "withdrawn"
	}
	return "none"
}

func (p personDoc) has() string {
	var has []string
	for _, part := range p.parts() {
		if part.file != nil {
			has = append(has, part.name)
		}
	}
	return strings.Join(has, ",")
}

// partDoc is a part of a profile, if it has it.
type partDoc struct {
	name string
	file *fileDoc
}

func (p personDoc) parts() []partDoc {
	return []partDoc{{"portrait", p.Portrait}, {"voice", p.Voice}, {"lora", p.Lora}}
}

func (a asker) showProfile(ctx context.Context, id string) error {
	var p personDoc
	if done, err := a.ask(ctx, http.MethodGet, "/api/profiles/"+url.PathEscape(id), nil, &p); err != nil {
		return fmt.Errorf("cannot show the profile: %w", err)
	} else if done {
		return nil
	}
	fmt.Fprintf(a.stdout, "profile  %s %s\nlabel    %s\ncreated  %s\n", printable(p.ID), printable(p.Status), p.name(), p.CreatedAt.Local().Format(time.DateTime))
	if c := p.Consent; c != nil && c.By != nil && c.Statement != nil {
		fmt.Fprintf(a.stdout, "consent  %s: %s\n", printable(*c.By), printable(*c.Statement))
	} else {
		fmt.Fprintf(a.stdout, "consent  %s\n", p.agreed())
	}
	for _, part := range p.parts() {
		if f := part.file; f != nil {
			fmt.Fprintf(a.stdout, "%-8s %s, %d bytes%s%s\n", part.name, printable(f.MediaType), f.Size, after(", made by ", f.Engine), after(" in job ", f.FromJob))
		}
	}
	for _, then := range []struct {
		what string
		at   *time.Time
	}{{"withdrawn", p.Withdrawn}, {"archived", p.Archived}, {"erased", p.Erased}, {"all gone", p.Completed}} {
		if then.at != nil {
			fmt.Fprintf(a.stdout, "%-8s %s\n", then.what, then.at.Local().Format(time.DateTime))
		}
	}
	return nil
}

func after(words string, text *string) string {
	if text == nil {
		return ""
	}
	return words + printable(*text)
}

// changeProfile sends what the verb asks. The key makes a repeat after an outage harmless.
func (a asker) changeProfile(ctx context.Context, p profileFlags) error {
	verb, id, method := a.words[0], a.words[1], http.MethodPatch
	var change map[string]any
	switch verb {
	case "rename":
		change = map[string]any{"label": a.words[2]}
	case "consent":
		change = map[string]any{"consent": map[string]string{"by": p.by, "statement": p.statement}}
	case "withdraw":
		change = map[string]any{"consent": nil}
	case "archive", "restore":
		change = map[string]any{"archived": verb == "archive"}
	case "erase":
		method = http.MethodDelete
	}
	var body []byte
	if change != nil {
		var err error
		if body, err = json.Marshal(change); err != nil {
			return err
		}
	}
	var raw json.RawMessage
	if err := a.client.call(ctx, method, "/api/profiles/"+url.PathEscape(id), http.Header{"Idempotency-Key": {rand.Text()}}, body, &raw); err != nil {
		return fmt.Errorf("cannot %s: %w", map[bool]string{true: "record the consent", false: verb + " the profile"}[verb == "consent"], err)
	}
	return a.tellProfile(raw)
}

// tellProfile says how a profile is after a command.
func (a asker) tellProfile(raw json.RawMessage) error {
	if a.asJSON {
		return printRaw(a.stdout, raw)
	}
	var got personDoc
	if err := json.Unmarshal(raw, &got); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	if got.Detail != "" {
		fmt.Fprintf(a.stdout, "profile %s: %s\n", printable(got.ID), printable(got.Detail))
		return nil
	}
	fmt.Fprintf(a.stdout, "profile %s (%s) is %s; its consent is %s\n", printable(got.ID), got.name(), printable(got.Status), got.agreed())
	return nil
}
