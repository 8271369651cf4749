// The whole system in one process, with real services as children: from a photo
// to a talking video, on the embedded log and on Apache Kafka.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/projections"
)

// system is everything that dev starts, with the handles that tests need.
type system struct {
	t        *testing.T
	services *devServices
	cfg      Config
	url      string
}

// startSystem starts services and roles on free ports in a temporary folder.
func startSystem(t *testing.T, log string, flags ...string) *system {
	t.Helper()
	cfg, _, err := loadConfig(append([]string{"--http-listen", "127.0.0.1:0", "--kafka-partitions", "3"}, flags...), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := os.Create(filepath.Join(t.TempDir(), "lines"))
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(lines, nil))
	s := &system{t: t, cfg: cfg, services: &devServices{dir: t.TempDir(), kafka: log == "kafka", logger: logger}}
	ctx, cancel := context.WithCancel(context.Background())
	starting, done := context.WithTimeout(ctx, 2*time.Minute)
	defer done()
	if err := s.services.start(starting, &s.cfg); err != nil {
		cancel()
		t.Fatal(errors.Join(err, s.services.stop()))
	}
	addr, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- runRoles(ctx, s.cfg, logger, func(a string) { addr <- a }) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, s.services.stop()); err != nil {
			t.Errorf("the system did not end cleanly: %v", err)
		}
		if t.Failed() {
			t.Logf("the last lines of the roles:\n%s", lastLines(lines.Name()))
		}
	})
	select {
	case a := <-addr:
		s.url = "http://" + a
	case err := <-ended:
		ended <- err
		t.Fatalf("the roles ended: %v", err)
	case <-starting.Done():
		t.Fatal("the API did not listen in time")
	}
	s.ready()
	return s
}

// ready waits until every dependency answers and workers have announced themselves.
func (s *system) ready() {
	s.t.Helper()
	s.eventually(time.Minute, "ready", func() error {
		code, body := s.get("/ready")
		if code != http.StatusOK {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
}

// lastLines are the roles' last lines, without those of single requests.
func lastLines(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := slices.DeleteFunc(strings.Split(string(b), "\n"), func(l string) bool { return strings.Contains(l, "msg=request") })
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

func (s *system) get(path string) (int, []byte) {
	resp, err := http.Get(s.url + path)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, []byte(err.Error())
	}
	return resp.StatusCode, b
}

// eventually waits for a condition.
func (s *system) eventually(patience time.Duration, what string, check func() error) {
	s.t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err = check(); err == nil {
			return
		}
		wait := time.NewTimer(100 * time.Millisecond)
		<-wait.C
	}
	s.t.Fatalf("%s: not within %v: %v", what, patience, err)
}

// submit runs `myspinbot submit` and returns its status and what it printed.
func (s *system) submit(args ...string) (int, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var out bytes.Buffer
	status := runSubmit(ctx, append([]string{"--server", s.url}, args...), &out, &out)
	return status, out.String()
}

// job reads the newest job.
func (s *system) newestJob() map[string]any {
	s.t.Helper()
	var page struct {
		Jobs []map[string]any `json:"items"`
	}
	s.eventually(30*time.Second, "a job in the list", func() error {
		_, b := s.get("/api/jobs?limit=1")
		if err := json.Unmarshal(b, &page); err != nil {
			return fmt.Errorf("%w: %s", err, b)
		}
		if len(page.Jobs) == 0 {
			return errors.New("the list is empty")
		}
		return nil
	})
	return page.Jobs[0]
}

// wholeJob is the part of a job that tests look into.
type wholeJob struct {
	Stages []struct{ ID, Status, Fidelity, Engine string } `json:"stages"`
}

func (s *system) newestJobWhole() (j wholeJob) {
	s.t.Helper()
	code, body := s.get("/api/jobs/" + fmt.Sprint(s.newestJob()["id"]))
	if err := json.Unmarshal(body, &j); err != nil || code != http.StatusOK {
		s.t.Fatalf("%d %s: %v", code, body, err)
	}
	return j
}

func (s *system) pool() *pgxpool.Pool {
	s.t.Helper()
	p, err := pgxpool.New(context.Background(), s.cfg.Postgres.URL.Reveal())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.Close)
	return p
}

// explained checks that every row equals the fold of the log.
func (s *system) explained() {
	s.t.Helper()
	log, err := openLog(s.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	report, err := projections.Verify(context.Background(), projections.Config{Log: log, Pool: s.pool()})
	if err != nil {
		s.t.Fatal(err)
	}
	if len(report.Differences) > 0 || report.Rows == 0 {
		s.t.Fatalf("%d rows, differences: %v", report.Rows, report.Differences)
	}
}

func (s *system) dump() string {
	s.t.Helper()
	var b strings.Builder
	if err := projections.Dump(context.Background(), s.pool(), &b); err != nil {
		s.t.Fatal(err)
	}
	return b.String()
}

// caughtUp waits until the tables know the job's end.
func (s *system) caughtUp(status string) {
	s.t.Helper()
	s.eventually(30*time.Second, "the tables catch up", func() error {
		if got := s.newestJob()["status"]; got != status {
			return fmt.Errorf("status %v", got)
		}
		return nil
	})
}

const portraitFile = "../../deploy/demo/portrait.png"

// A job, another one from the profile that the first made, and a rebuild that
// changes nothing, on the embedded log.
func TestFromPhotoToVideo(t *testing.T) {
	t.Parallel()
	s := startSystem(t, "embedded")
	status, out := s.submit("--portrait", portraitFile, "--text", "Here I am.", "--variant", "sadtalker", "--name", "Eileen", "--out", t.TempDir(),
		"--consent-by", "tester", "--consent-statement", "yes")
	if status != 0 {
		t.Fatalf("status %d\n%s", status, out)
	}
	s.caughtUp("succeeded")
	t.Run("from the profile", s.fromProfile)
	s.explained()
	before := s.dump()
	var printed bytes.Buffer
	at := []string{"--kafka-brokers", s.cfg.Kafka.Brokers[0], "--kafka-partitions", "3", "--postgres-url", s.cfg.Postgres.URL.Reveal()}
	for _, step := range []struct {
		args []string
		says string
	}{
		{[]string{"rebuild", "--dry-run"}, "build generation 2, while readers see generation 1"},
		{[]string{"rebuild", "--compare", "--keep-old"}, "readers see generation 2"},
		{[]string{"generations"}, "1    kept"},
		{[]string{"generations", "--drop", "1"}, "generation 1 is dropped"},
	} {
		printed.Reset()
		if status := runReplay(context.Background(), append(step.args, at...), &printed, &printed); status != 0 || !strings.Contains(printed.String(), step.says) {
			t.Fatalf("replay %v: %s", step.args, printed.String())
		}
	}
	if after := s.dump(); after != before {
		t.Fatalf("the rebuilt tables differ:\n%s", firstDifference(before, after))
	}
	t.Run("erased", s.erased)
	s.explained()
}

func (s *system) fromProfile(t *testing.T) {
	profile, _ := s.newestJob()["profile"].(map[string]any)
	if profile == nil {
		t.Fatalf("the job has no profile: %v", s.newestJob())
	}
	status, printed := s.submit("--mode", "generate_from_profile", "--variant", "sadtalker", "--profile", fmt.Sprint(profile["id"]), "--text", "I am back.", "--out", t.TempDir())
	if status != 0 {
		t.Fatalf("status %d\n%s", status, printed)
	}
}

// The same on Apache Kafka, with PostgreSQL stopped in the middle: the job
// finishes on the log, and the tables catch up by themselves.
func TestPostgresMayBeAway(t *testing.T) {
	t.Parallel()
	s := startSystem(t, "kafka")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	status, printed := s.submit("--portrait", portraitFile, "--text", "The tables may sleep. The work goes on.", "--variant", "sadtalker", "--no-wait")
	if status != 0 {
		t.Fatalf("status %d\n%s", status, printed)
	}
	job := fmt.Sprint(s.newestJob()["id"])
	if err := s.services.postgres.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if code, body := s.get("/api/jobs/" + job); code != http.StatusServiceUnavailable {
		t.Errorf("a read without tables gives %d %s", code, body)
	}
	log, err := openLog(s.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if state := awaitEnd(ctx, t, log, job); state != "succeeded" {
		t.Fatalf("without tables the job ended as %s", state)
	}
	// A second job is accepted as well.
	if status, printed := s.submit("--portrait", portraitFile, "--text", "And again.", "--variant", "sadtalker", "--no-wait"); status != 0 {
		t.Fatalf("a job without tables: status %d\n%s", status, printed)
	}
	if err := s.services.postgres.Start(ctx); err != nil {
		t.Fatal(err)
	}
	s.eventually(time.Minute, "both jobs in the tables", func() error {
		_, b := s.get("/api/jobs?status=succeeded")
		if n := strings.Count(string(b), `"status":"succeeded"`); n < 2 {
			return fmt.Errorf("%d succeeded: %s", n, b)
		}
		return nil
	})
	s.explained()
}

// Samples become a profile: a voice reference and a prepared training set, each
// labelled for what it is.
func TestTrainingMakesAProfile(t *testing.T) {
	t.Parallel()
	s := startSystem(t, "embedded")
	voice := filepath.Join(t.TempDir(), "voice.wav")
	if out, err := exec.Command("flite", "-voice", "rms", "-t", "This is how I sound when I read a longer sentence aloud to my computer.", "-o", voice).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	status, printed := s.submit("--portrait", portraitFile, "--voice", voice, "--images", portraitFile, "--text", canary+" speaks.",
		"--variant", "svd_wav2lip", "--option", "duration_seconds=2", "--name", canary, "--consent-by", canary, "--consent-statement", canary, "--out", t.TempDir())
	if status != 0 {
		t.Fatalf("status %d\n%s", status, printed)
	}
	s.caughtUp("succeeded")
	made := map[string]string{}
	for _, stage := range s.newestJobWhole().Stages {
		made[stage.ID] = stage.Fidelity + " " + stage.Engine
	}
	for stage, want := range map[string]string{"train_lora": "prepared ", "train_voice": "full reference", "render": "preview ken-burns", "tts": "preview flite", "lipsync": "preview talking-photo"} {
		if !strings.HasPrefix(made[stage], want) {
			t.Errorf("stage %s was made by %q, want %q", stage, made[stage], want)
		}
	}
	_, body := s.get("/api/profiles")
	for _, part := range []string{`"voice":{`, `"lora":{`, `"portrait":{`, canary} {
		if !bytes.Contains(body, []byte(part)) {
			t.Errorf("the profile lacks %s: %s", part, body)
		}
	}
	s.profileWithoutJob(voice)
	s.noClearText()
	s.explained()
}

// canary is free text that must not be found in clear on the log or in the tables.
const canary = "Quetzalcoatl"

// noClearText searches every record of every topic, and every row, for the canary.
func (s *system) noClearText() {
	s.t.Helper()
	log, err := openLog(s.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	topics := []string{events.TopicJobCommands, events.TopicJobEvents, events.TopicJobIndex, events.TopicProfileCommands, events.TopicProfileEvents,
		events.TopicTaskEvents, events.TopicTaskProgress, events.TopicWorkers, events.TopicDeadLetters}
	for _, lane := range events.Lanes() {
		topics = append(topics, events.LaneTopic(lane))
	}
	n := 0
	_, err = log.Read(context.Background(), log.Whole(topics...), func(rs []eventlog.Record) error {
		for _, r := range rs {
			if n++; bytes.Contains(bytes.ToLower(r.Value), bytes.ToLower([]byte(canary))) {
				s.t.Errorf("%s offset %d holds free text in clear: %s", r.At(), r.Offset, r.Value)
			}
		}
		return nil
	})
	if err != nil || n < 50 {
		s.t.Fatalf("%d records read: %v", n, err)
	}
	if strings.Contains(strings.ToLower(s.dump()), strings.ToLower(canary)) {
		s.t.Error("the tables hold free text in clear")
	}
}

// Failures have a stage, a class and a sentence, and nothing hangs.
func TestNoFaceIsAnAnswer(t *testing.T) {
	t.Parallel()
	s := startSystem(t, "embedded")
	photo := filepath.Join(t.TempDir(), "wall.png")
	writeWall(t, photo)
	args := []string{"--portrait", photo, "--text", "There is nobody here.", "--variant", "sadtalker", "--out", t.TempDir()}
	status, printed := s.submit(args...)
	if status != 1 || !strings.Contains(printed, "lipsync") || !strings.Contains(printed, "invalid_input") || !strings.Contains(printed, "face") {
		t.Fatalf("status %d\n%s", status, printed)
	}
	s.caughtUp("failed")
	status, printed = s.submit(append(args, "--option", "no_face=still")...)
	if status != 0 {
		t.Fatalf("a still video of the wall: status %d\n%s", status, printed)
	}
	s.caughtUp("succeeded")
	s.explained()
}
