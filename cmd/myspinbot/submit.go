// `myspinbot submit`: upload, submit, watch, download.

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// submission is what the flags of submit say.
type submission struct {
	server, keyFile, out, key    string
	portrait, transcript         string
	music, audio                 string
	voice, images, labels        wordList
	text, textFile, prompt       string
	variant, mode, profile, name string
	consentBy, consentStatement  string
	options                      optionMap
	priority, notBefore, engines string
	noWait, approval             bool
	webhook                      webhookFlags
}

// wordList is a flag that may be given more than once.
type wordList []string

func (l *wordList) String() string     { return strings.Join(*l, ",") }
func (l *wordList) Set(s string) error { *l = append(*l, s); return nil }

// optionMap is --option NAME=VALUE, more than once. Numbers and true or false are
// taken as such.
type optionMap map[string]any

func (o optionMap) String() string { return "" }

func (o optionMap) Set(s string) error {
	name, text, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return errors.New("want NAME=VALUE, such as resolution=576p")
	}
	if _, twice := o[name]; twice {
		return fmt.Errorf("%s is given twice", name)
	}
	o[name] = text
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		o[name] = n
	} else if text == "true" || text == "false" {
		o[name] = text == "true"
	}
	return nil
}

func (s *submission) flags() *flag.FlagSet {
	f := flag.NewFlagSet("submit", flag.ContinueOnError)
	f.StringVar(&s.portrait, "portrait", "", "photo of the person (JPEG, PNG or WebP)")
	f.Var(&s.voice, "voice", "recording of the person's voice; may be given again")
	f.StringVar(&s.transcript, "voice-transcript", "", "what is said in the recording, if known")
	f.Var(&s.images, "images", "further photo, to train with; may be given again, up to 60 times")
	f.StringVar(&s.text, "text", "", "script that is spoken as it is")
	f.StringVar(&s.textFile, "text-file", "", "file that holds the script; - reads standard input")
	f.StringVar(&s.prompt, "prompt", "", "topic that a script is written about")
	f.StringVar(&s.variant, "variant", "", "svd_wav2lip (default), sadtalker, infinitetalk, or one of the installation's own (myspinbot pipelines)")
	f.StringVar(&s.mode, "mode", "", "train_and_generate (default) or generate_from_profile; diagnostic goes through four lanes and makes nothing")
	f.StringVar(&s.profile, "profile", "", "id of the profile that generate_from_profile uses")
	f.StringVar(&s.name, "name", "", "name of the profile that is made")
	f.Var(&s.options, "option", "NAME=VALUE for the pipeline, such as resolution=576p; may be given again (GET /api/pipelines lists them)")
	s.look(f)
	f.StringVar(&s.music, "music", "", "recording that is laid under the speech, repeated or cut to its length")
	f.StringVar(&s.audio, "audio", "", "recording of what is said, in place of a voice; --text or --text-file gives its words")
	f.StringVar(&s.consentBy, "consent-by", "", "who agreed to the use of face and voice")
	f.StringVar(&s.consentStatement, "consent-statement", "", "what they agreed to, in their words")
	f.StringVar(&s.out, "out", "", "folder for the result; default: one named after the job")
	defineServer(f, &s.server, &s.keyFile)
	f.StringVar(&s.key, "key", "", "Idempotency-Key: the same key never makes a second job; default: a random one")
	f.BoolVar(&s.approval, "approval", false, "wait after the script until somebody approves it (myspinbot jobs approve)")
	f.StringVar(&s.priority, "priority", "", "interactive (default) or batch, which lets interactive work go first")
	f.Var(&s.labels, "label", "word by which the job is found again (myspinbot jobs --label); may be given again")
	f.StringVar(&s.notBefore, "not-before", "", "when the job may start: a time such as 2026-12-24T18:00:00+01:00, or from now on, such as 90m")
	f.StringVar(&s.engines, "engines", "", "auto: configured engines, or built-in ones in their place; real: nothing stands in; preview: built-in ones alone; default: the operator's choice")
	s.webhook.define(f)
	f.BoolVar(&s.noWait, "no-wait", false, "only submit, and print the job's id")
	return f
}

// parse reads the flags and everything that can be seen to be wrong without a server.
func (s *submission) parse(args []string, stderr io.Writer) error {
	s.options = optionMap{}
	f := s.flags()
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintln(stderr, "usage: myspinbot submit --portrait FILE (--text TEXT | --text-file FILE | --prompt TOPIC) [flags]")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	if f.NArg() > 0 {
		fault("submit takes flags only, not %q", f.Arg(0))
	}
	if s.text != "" && s.textFile != "" {
		fault("--text and --text-file are two scripts: give one of them")
	}
	nobody := s.mode == modeDiagnostic
	if s.text == "" && s.textFile == "" && s.prompt == "" && !nobody {
		fault("nothing to say: give --text, --text-file or --prompt")
	}
	if s.audio != "" && (s.prompt != "" || s.text == "" && s.textFile == "") {
		fault("--audio needs its words: give --text or --text-file, and no --prompt")
	}
	if (s.consentBy == "") != (s.consentStatement == "") {
		fault("a consent needs both --consent-by and --consent-statement")
	}
	if s.webhook.url == "" && s.webhook != (webhookFlags{}) {
		fault("--webhook-events and --webhook-secret say how to tell --webhook, which is missing")
	}
	if s.portrait == "" && s.profile == "" && !nobody {
		fault("nobody to show: give --portrait, or --profile with --mode generate_from_profile")
	}
	if err := s.when(); err != nil {
		fault("--not-before %w", err)
	}
	for _, path := range append(append([]string{s.portrait, s.music, s.audio}, s.voice...), s.images...) {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			fault("cannot read the file: %w", err)
		}
	}
	return errors.Join(faults...)
}

// modeDiagnostic needs nothing to say and nobody to show.
const modeDiagnostic = "diagnostic"

// when takes a time from now on as the time that it is.
func (s *submission) when() error {
	if s.notBefore == "" {
		return nil
	}
	if wait, err := time.ParseDuration(s.notBefore); err == nil && wait >= 0 {
		s.notBefore = time.Now().Add(wait).Format(time.RFC3339)
	}
	if _, err := time.Parse(time.RFC3339, s.notBefore); err != nil {
		return fmt.Errorf("%q is neither a time with its zone, such as 2026-12-24T18:00:00+01:00, nor a wait, such as 90m", s.notBefore)
	}
	return nil
}

// maxScript is what the API reads at most, JSON included.
const maxScript = 200 << 10

// script is the text to be spoken, empty when a prompt stands in its place.
func (s *submission) script(stdin io.Reader) (string, error) {
	if s.textFile == "" {
		return s.text, nil
	}
	return readText("script", s.textFile, stdin)
}

// readText is the text in a file, or on standard input for "-"; what names it in errors.
func readText(what, path string, stdin io.Reader) (string, error) {
	from := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("cannot read the %s: %w", what, err)
		}
		defer file.Close()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, maxScript+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot read the %s: %w", what, err)
	case len(text) > maxScript:
		return "", fmt.Errorf("the %s in %s is longer than %d KiB", what, path, maxScript>>10)
	case !utf8.Valid(text):
		return "", fmt.Errorf("the %s in %s is no UTF-8 text", what, path)
	case strings.TrimSpace(string(text)) == "":
		return "", fmt.Errorf("the %s in %s is empty", what, path)
	}
	return string(text), nil
}

// runSubmit is `myspinbot submit`: 0 when the video is there, 1 when something
// failed, 2 when the flags are wrong.
func runSubmit(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var s submission
	switch err := s.parse(args, stderr); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "myspinbot submit: %v\n", err)
		return 2
	}
	c, err := newClient(s.server, s.keyFile)
	if err == nil {
		err = s.run(ctx, c, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "myspinbot submit: %v\n", err)
		return 1
	}
	return 0
}

func (s *submission) run(ctx context.Context, c *client, stdout io.Writer) error {
	script, err := s.script(os.Stdin)
	if err != nil {
		return err
	}
	request, err := s.request(ctx, c, script)
	if err != nil {
		return err
	}
	if s.key == "" {
		s.key = rand.Text()
	}
	job, err := c.submit(ctx, s.key, request)
	if err != nil {
		return fmt.Errorf("the job was not accepted: %w", err)
	}
	if job.WebhookSecret != "" {
		fmt.Fprintf(stdout, "its webhook's messages are signed with %s\n", printable(job.WebhookSecret))
	}
	return c.tellAndWatch(ctx, job, s.noWait, s.out, stdout)
}

// tellAndWatch tells the job's id and, unless nobody waits, watches it to its end; its files
// go to out, or to a folder of its id's name.
func (c *client) tellAndWatch(ctx context.Context, job jobDoc, noWait bool, out string, stdout io.Writer) error {
	fmt.Fprintf(stdout, "job %s\n", printable(job.ID))
	if noWait {
		return nil
	}
	if out == "" {
		out = filepath.Base(job.ID)
	}
	return c.watch(ctx, job, out, stdout)
}

// request uploads the files and builds the body.
func (s *submission) request(ctx context.Context, c *client, script string) (map[string]any, error) {
	body := map[string]any{}
	for name, text := range map[string]string{"script": script, "prompt": s.prompt, "variant": s.variant, "mode": s.mode,
		"profile_id": s.profile, "profile_name": s.name, "voice_transcript": s.transcript, "priority": s.priority, "engines": s.engines, "not_before": s.notBefore} {
		if text != "" {
			body[name] = text
		}
	}
	if len(s.labels) > 0 {
		body["labels"] = s.labels
	}
	if s.approval {
		body["approval"] = true
	}
	if s.webhook.url != "" {
		body["webhook"] = s.webhook.body()
	}
	if len(s.options) > 0 {
		body["options"] = s.options
	}
	if s.consentBy != "" {
		body["consent"] = map[string]string{"by": s.consentBy, "statement": s.consentStatement}
	}
	for name, path := range map[string]string{"portrait": s.portrait, "music": s.music, "audio": s.audio} {
		if path == "" {
			continue
		}
		id, err := c.upload(ctx, path)
		if err != nil {
			return nil, err
		}
		body[name] = id
	}
	for name, paths := range map[string][]string{"voice": s.voice, "images": s.images} {
		var ids []string
		for _, path := range paths {
			id, err := c.upload(ctx, path)
			if err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
		if len(ids) > 0 {
			body[name] = ids
		}
	}
	return body, nil
}

// watch shows the job until it ends, and downloads what it made into out.
func (c *client) watch(ctx context.Context, job jobDoc, out string, stdout io.Writer) error {
	bars := newProgress(stdout, job)
	version, err := c.follow(ctx, job.ID, bars.see, func(err error) {
		fmt.Fprintf(stdout, "  (the connection broke, trying again: %s)\n", printable(err.Error()))
		bars.drawn = 0
	})
	if err == nil {
		job, err = c.job(ctx, job.ID, version)
	}
	if err != nil {
		return fmt.Errorf("job %s cannot be followed: %w\n`myspinbot jobs show %s --out DIR` fetches its result later", printable(job.ID), err, printable(job.ID))
	}
	if job.Status != "succeeded" {
		return jobFailure(job)
	}
	if job.Mode == modeDiagnostic {
		fmt.Fprintln(stdout, "every stage went well; there is nothing to download")
		return nil
	}
	return c.fetch(ctx, job, out, stdout)
}

// resultNames are the outputs that are downloaded, and their files' names. Further takes
// have pictures of their own, under the same names with -2, -3 and -4 behind.
var resultNames = []struct{ output, file string }{
	{"video", "video"}, {"thumbnail", "thumbnail"}, {"captions_srt", "captions"}, {"captions_vtt", "captions"},
}

// fetch downloads a job's results into a folder and prints their paths.
func (c *client) fetch(ctx context.Context, job jobDoc, out string, stdout io.Writer) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("cannot make the folder for the result: %w", err)
	}
	byID := map[string]artifactDoc{}
	for _, a := range job.Artifacts {
		byID[a.ID] = a
	}
	if len(job.Outputs["video"]) == 0 {
		return errors.New("the job succeeded but names no video")
	}
	for take := 1; take == 1 || len(job.Outputs[fmt.Sprintf("video_%d", take)]) > 0; take++ {
		for _, r := range resultNames {
			output, file := r.output, r.file
			if take > 1 {
				output, file = fmt.Sprintf("%s_%d", output, take), fmt.Sprintf("%s-%d", file, take)
			}
			if take > 1 && r.file == "captions" {
				continue // all takes say the same at the same time
			}
			for _, id := range job.Outputs[output] {
				a, ok := byID[id]
				if !ok {
					return fmt.Errorf("the job names a %s that is not among its artifacts", output)
				}
				path := filepath.Join(out, file+filepath.Ext(filepath.Base(a.Name)))
				if err := c.download(ctx, a, path); err != nil {
					return err
				}
				fmt.Fprintln(stdout, path)
			}
		}
	}
	return nil
}

// jobFailure is everything that the job says about its end.
func jobFailure(job jobDoc) error {
	var b strings.Builder
	fmt.Fprintf(&b, "job %s ended %s", printable(job.ID), printable(job.Status))
	f := job.Error
	if f == nil {
		return errors.New(b.String())
	}
	if f.Stage != "" {
		fmt.Fprintf(&b, "\n  stage: %s", printable(f.Stage))
	}
	if f.Class != "" {
		fmt.Fprintf(&b, "\n  class: %s", printable(f.Class))
	}
	fmt.Fprintf(&b, "\n  what:  %s", printable(f.Message))
	for _, r := range f.Reasons {
		fmt.Fprintf(&b, "\n         %s", printable(strings.TrimSpace(r.Field+" "+r.Detail)))
		if r.Code != "" {
			fmt.Fprintf(&b, " (%s)", printable(r.Code))
		}
	}
	if f.Hint != "" {
		fmt.Fprintf(&b, "\n  hint:  %s", printable(f.Hint))
	}
	if tail := strings.TrimRight(f.LogTail, "\n"); tail != "" {
		fmt.Fprintf(&b, "\n  log:\n    %s", strings.ReplaceAll(printable(tail), "\n", "\n    "))
	}
	return errors.New(b.String())
}
