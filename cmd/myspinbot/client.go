// A client of the HTTP API, for the commands that make and read jobs.

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	defaultServer  = "http://127.0.0.1:8080"
	answerTimeout  = 30 * time.Second // of a request without a file
	fileTimeout    = 30 * time.Minute // of an upload or a download
	maxAnswer      = 16 << 20         // bytes of a JSON answer
	maxRetries     = 5
	longestBackOff = 10 * time.Second
)

// client speaks to one server. Its methods may be called from several goroutines.
type client struct {
	base string // without a slash at the end
	http *http.Client
	// pause waits between two attempts, or until ctx ends.
	pause func(ctx context.Context, d time.Duration) error
}

// newClient checks the server's address. An empty one is $MYSPINBOT_SERVER, else
// the default of `myspinbot dev`. The key is the file's, else $MYSPINBOT_API_KEY.
func newClient(server, keyFile string) (*client, error) {
	if server == "" {
		server = os.Getenv("MYSPINBOT_SERVER")
	}
	if server == "" {
		server = defaultServer
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("the server's address %q is not one: give http://HOST:PORT", server)
	}
	key, err := apiKey(keyFile)
	if err != nil {
		return nil, err
	}
	return &client{base: strings.TrimRight(server, "/"), http: &http.Client{Transport: keyed{u.Host, key}}, pause: sleep}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// The parts of the API's answers that the commands use.
type (
	jobDoc struct {
		ID         string              `json:"id"`
		Version    int64               `json:"version"`
		Status     string              `json:"status"`
		Progress   float64             `json:"progress"` // 0 to 1
		Variant    string              `json:"variant"`
		Mode       string              `json:"mode"`
		Profile    *profileDoc         `json:"profile"`
		CreatedAt  time.Time           `json:"created_at"`
		FinishedAt *time.Time          `json:"finished_at"`
		Stages     []stageDoc          `json:"stages"`
		Error      *failureDoc         `json:"error"`
		Outputs    map[string][]string `json:"outputs"` // artifact ids by the output's name
		Artifacts  []artifactDoc       `json:"artifacts"`
		Position   string              `json:"position"` // in the answer to a submission
		// WebhookSecret is in that answer too, where the server has made one.
		WebhookSecret string `json:"webhook_secret"`

		Cancelling  bool       `json:"cancelling"`
		ParentJobID string     `json:"parent_job_id"`
		NotBefore   *time.Time `json:"not_before"`
		Labels      []string   `json:"labels"`
		forecastDoc
		Approval *approvalDoc `json:"approval"`
	}
	profileDoc struct {
		ID    string  `json:"id"`
		Label *string `json:"label"`
	}
	stageDoc struct {
		ID         string      `json:"id"`
		Status     string      `json:"status"`
		Progress   float64     `json:"progress"`
		Engine     string      `json:"engine"`
		Fidelity   string      `json:"fidelity"`
		DurationMS int64       `json:"duration_ms"`
		Error      *failureDoc `json:"error"`
	}
	failureDoc struct {
		Stage   string `json:"stage"`
		Class   string `json:"class"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
		LogTail string `json:"log_tail"`
		Reasons []struct {
			Code   string `json:"code"`
			Field  string `json:"field"`
			Detail string `json:"detail"`
		} `json:"reasons"`
	}
	artifactDoc struct {
		ID         string `json:"id"`
		Name       string `json:"name"`
		MediaType  string `json:"media_type"`
		SHA256     string `json:"sha256"`
		Size       int64  `json:"size"`
		ContentURL string `json:"content_url"`
	}
)

// ended says whether nothing more will happen to the job.
func (j jobDoc) ended() bool {
	switch j.Status {
	case "succeeded", "failed", "rejected", "cancelled":
		return true
	}
	return false
}

// state is the status, and whether the job is on its way to another.
func (j jobDoc) state() string {
	if j.Cancelling {
		return j.Status + ", cancelling"
	}
	return j.Status
}

// problem is an answer of the server that says no (RFC 9457).
type problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Errors []struct {
		Pointer   string `json:"pointer"`
		Parameter string `json:"parameter"`
		Detail    string `json:"detail"`
	} `json:"errors"`
	retryAfter time.Duration
}

func (p *problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%d %s)", printable(p.Title), p.Status, printable(p.Code))
	if len(p.Errors) == 0 && p.Detail != "" {
		b.WriteString(": " + printable(p.Detail))
	}
	for _, e := range p.Errors {
		fmt.Fprintf(&b, "\n  %s: %s", printable(e.Pointer+e.Parameter), printable(e.Detail))
	}
	if p.Status == http.StatusUnauthorized {
		b.WriteString("\n  " + whereKeysComeFrom)
	}
	return b.String()
}

// refusal turns an answer into a problem, whatever the server sent.
func refusal(resp *http.Response) *problem {
	p := &problem{}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil || json.Unmarshal(body, p) != nil || p.Title == "" {
		p = &problem{Title: "the server answered " + resp.Status}
	}
	p.Status = resp.StatusCode
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 {
		p.retryAfter = time.Duration(s) * time.Second
	}
	return p
}

// transient says whether the same request may be answered well a little later.
func transient(err error) bool {
	var p *problem
	if errors.As(err, &p) {
		return p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests || p.Status == http.StatusBadGateway || p.Status == http.StatusGatewayTimeout
	}
	var u *url.Error // no answer at all
	return errors.As(err, &u)
}

// retry tries again while the failure may pass: after what the server asks for,
// else after a doubling wait.
func (c *client) retry(ctx context.Context, try func() error) error {
	wait := 500 * time.Millisecond
	for attempt := 1; ; attempt++ {
		err := try()
		if err == nil || ctx.Err() != nil || attempt == maxRetries || !transient(err) {
			return err
		}
		var p *problem
		if errors.As(err, &p) && p.retryAfter > 0 {
			wait = p.retryAfter
		}
		if err := c.pause(ctx, min(wait, longestBackOff)); err != nil {
			return err
		}
		wait *= 2
	}
}

// call sends one request and decodes a JSON answer into out.
func (c *client) call(ctx context.Context, method, path string, header http.Header, body []byte, out any) error {
	return c.retry(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, answerTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("cannot make the request: %w", err)
		}
		for name, values := range header {
			req.Header[name] = values
		}
		if body != nil {
			req.Header.Set("Content-Type", "application/json")
		}
		return c.answer(req, out)
	})
}

func (c *client) answer(req *http.Request, out any) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return refusal(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	return nil
}

// upload sends a file and gives the id of the upload.
func (c *client) upload(ctx context.Context, path string) (string, error) {
	var answer struct {
		ID string `json:"id"`
	}
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	err := c.retry(ctx, func() error { return c.tryUpload(ctx, path, &answer) })
	if err == nil && answer.ID == "" {
		err = errors.New("the server's answer holds no id")
	}
	if err != nil {
		return "", fmt.Errorf("cannot upload %s: %w", path, err)
	}
	return answer.ID, nil
}

// tryUpload streams the file, so that its size does not matter here.
func (c *client) tryUpload(ctx context.Context, path string, out any) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is no regular file")
	}
	var frame bytes.Buffer
	form := multipart.NewWriter(&frame)
	part := textproto.MIMEHeader{}
	part.Set("Content-Disposition", multipart.FileContentDisposition("file", filepath.Base(path)))
	part.Set("Content-Type", "application/octet-stream")
	if _, err := form.CreatePart(part); err != nil {
		return err
	}
	head := bytes.Clone(frame.Bytes())
	frame.Reset()
	if err := form.Close(); err != nil {
		return err
	}
	body := io.MultiReader(bytes.NewReader(head), io.LimitReader(file, info.Size()), &frame)
	size := int64(len(head)) + info.Size() + int64(frame.Len())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/api/uploads", body)
	if err != nil {
		return err
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", form.FormDataContentType())
	return c.answer(req, out)
}

// submit asks for a job. The key makes a repeat harmless.
func (c *client) submit(ctx context.Context, key string, request map[string]any) (jobDoc, error) {
	var job jobDoc
	body, err := json.Marshal(request)
	if err != nil {
		return job, fmt.Errorf("cannot write the request: %w", err)
	}
	err = c.call(ctx, http.MethodPost, "/api/jobs", http.Header{"Idempotency-Key": {key}}, body, &job)
	if err == nil && job.ID == "" {
		err = errors.New("the server's answer holds no job id")
	}
	return job, err
}

// job reads one job; with version > 0 not before its row has come that far.
func (c *client) job(ctx context.Context, id string, version int64) (jobDoc, error) {
	var job jobDoc
	path := "/api/jobs/" + url.PathEscape(id)
	if version > 0 {
		path += "?position=" + url.QueryEscape(fmt.Sprintf("%s:%d", id, version))
	}
	return job, c.call(ctx, http.MethodGet, path, nil, nil, &job)
}

// download writes an artifact to path when its bytes are those that the job
// promises; until then nothing stands under that name.
func (c *client) download(ctx context.Context, a artifactDoc, path string) error {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	if err := c.retry(ctx, func() error { return c.tryDownload(ctx, a, path) }); err != nil {
		return fmt.Errorf("cannot download %s: %w", printable(a.Name), err)
	}
	return nil
}

func (c *client) tryDownload(ctx context.Context, a artifactDoc, path string) (err error) {
	address, err := url.JoinPath(c.base, a.ContentURL)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".download-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close(), os.Remove(file.Name()))
		}
	}()
	digest := sha256.New()
	n, err := io.Copy(io.MultiWriter(file, digest), io.LimitReader(resp.Body, a.Size+1))
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(digest.Sum(nil)); n != a.Size || got != a.SHA256 {
		return fmt.Errorf("its bytes are not those that were made: SHA-256 %s and %d bytes, want %s and %d", got, n, a.SHA256, a.Size)
	}
	if err := file.Chmod(0o644); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// printable keeps what a server sends from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f) {
			return r
		}
		return '·'
	}, s)
}
