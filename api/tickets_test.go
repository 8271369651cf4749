// Tests of tickets: what is posted to the store becomes an upload like any other, and
// nothing of what is not used stays.

package api

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

func (w *world) ticket() Ticket {
	w.t.Helper()
	var t Ticket
	w.want(http.StatusCreated, w.post("/api/uploads/tickets", "{}")).decode(w.t, &t)
	return t
}

// postTo posts the file to the store, as a client does.
func (w *world) postTo(t Ticket, file []byte) int {
	w.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for name, value := range t.Fields {
		ok(w.t, form.WriteField(name, value))
	}
	part, err := form.CreateFormFile("file", "portrait.png")
	ok(w.t, err)
	_, err = part.Write(file)
	ok(w.t, err)
	ok(w.t, form.Close())
	res, err := http.Post(t.URL, form.FormDataContentType(), &body)
	ok(w.t, err)
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	ok(w.t, err)
	return res.StatusCode
}

func (w *world) incoming() int {
	w.t.Helper()
	files, err := w.objects.ListIncoming(w.t.Context())
	ok(w.t, err)
	return len(files)
}

func TestATicketBecomesAnUpload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, config: func(c *Config) { c.Uploads = UploadLimits{Bytes: 1 << 10, TicketBytes: 1 << 20} }})
	file := jpegFile(t, 960, 640, 6)
	if a := w.upload(make([]byte, 1<<20)); a.status != 413 || !strings.Contains(string(a.body), "/api/uploads/tickets") || !strings.Contains(string(a.body), "up to 1 MiB") {
		t.Errorf("a file for a ticket, sent here: %d %s", a.status, a.body)
	}
	ticket := w.ticket()
	if left := time.Until(ticket.ExpiresAt); ticket.MaxSize != 1<<20 || left < 55*time.Minute || left > time.Hour {
		t.Errorf("ticket %+v", ticket)
	}
	if a := w.want(404, w.post(ticket.CompleteURL, "")); !strings.Contains(string(a.body), "post the file") {
		t.Errorf("before the post: %s", a.body)
	}
	if status := w.postTo(ticket, make([]byte, 1<<20+1)); status < 400 || status >= 500 {
		t.Errorf("a byte too much: the store answers %d", status)
	}
	if status := w.postTo(ticket, file); status != http.StatusNoContent {
		t.Fatalf("the store answers %d", status)
	}
	// Two clients complete it at once, and again later: one upload.
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() { w.post(ticket.CompleteURL, "{}") })
	}
	wait.Wait()
	var u, again uploadView
	w.want(http.StatusCreated, w.post(ticket.CompleteURL, "")).decode(t, &u)
	w.want(http.StatusCreated, w.post(ticket.CompleteURL, "")).decode(t, &again)
	if u.ID != ticket.ID || again.SHA256 != u.SHA256 || !again.CreatedAt.Equal(u.CreatedAt) || u.MediaType != "image/jpeg" || *u.Width != 640 || *u.Height != 960 {
		t.Errorf("upload %+v, again %+v", u, again)
	}
	if bytes.Contains(w.content(u.ID), []byte("canary")) {
		t.Error("metadata survived")
	}
	if n, posted := w.stored(), w.incoming(); n != 2 || posted != 0 {
		t.Errorf("%d objects are stored, %d posted files are left; want the file and its record", n, posted)
	}
	left, err := os.ReadDir(w.server.cfg.TempDir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the temporary folder: %v, %v", left, err)
	}
	w.want(422, w.post("/api/uploads/tickets", `{"size": 3}`))
	w.want(400, w.post("/api/uploads/tickets?size=3", ``))
	w.want(422, w.post("/api/uploads/tickets/keys/complete", ``))
	w.want(404, w.post("/api/uploads/tickets/"+uuid.NewString()+"/complete", ``))
}

func TestAHostileFileUnderATicketLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	ticket := w.ticket()
	for _, h := range append(hostileFiles(t), disguisedFiles(t)...) {
		if len(h.file) == 0 {
			continue // the policy does not let it in
		}
		if status := w.postTo(ticket, h.file); status != http.StatusNoContent {
			t.Fatalf("%s: the store answers %d", h.name, status)
		}
		if a := w.post(ticket.CompleteURL, ""); a.status != h.status || !strings.Contains(string(a.body), h.says) {
			t.Errorf("%s: %d %s; want %d with %q", h.name, a.status, a.body, h.status, h.says)
		}
		if n, posted := w.stored(), w.incoming(); n != 0 || posted != 0 {
			t.Fatalf("%s: %d objects are stored, %d posted files are left", h.name, n, posted)
		}
	}
	left, err := os.ReadDir(w.server.cfg.TempDir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the temporary folder: %v, %v", left, err)
	}
}

func TestPostedFilesThatNobodyCompletesAreSwept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	ticket := w.ticket()
	if status := w.postTo(ticket, pngFile(t, 80, 80)); status != http.StatusNoContent {
		t.Fatalf("the store answers %d", status)
	}
	other := w.of("other")
	if status := other.postTo(other.ticket(), pngFile(t, 80, 80)); status != http.StatusNoContent {
		t.Fatalf("the store answers %d to another tenant", status)
	}
	// Until its ticket is over, and the time for completing it, it stays.
	ok(t, w.server.sweepPosted(t.Context(), ticket.ExpiresAt.Add(ticketGrace)))
	if w.incoming() != 2 {
		t.Error("a posted file was swept before its time")
	}
	ok(t, w.server.sweepPosted(t.Context(), ticket.ExpiresAt.Add(ticketGrace+time.Minute)))
	if w.incoming() != 0 {
		t.Error("a posted file whose ticket is over was not swept")
	}
	w.want(404, w.post(ticket.CompleteURL, ""))
}

func TestAStoreThatDoesNotAnswerCostsNoPostedFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	ticket := w.ticket()
	ticket.URL = strings.Replace(ticket.URL, w.objectNet.addr(), strings.TrimPrefix(s3.S3(), "http://"), 1)
	ticket.Fields = direct(t, w, ticket.ID)
	if status := w.postTo(ticket, pngFile(t, 80, 80)); status != http.StatusNoContent {
		t.Fatalf("the store answers %d", status)
	}
	w.objectNet.Cut()
	w.want(503, w.post(ticket.CompleteURL, ""))
	w.objectNet.Mend()
	if w.incoming() != 1 {
		t.Fatal("the posted file is gone")
	}
	w.want(201, w.post(ticket.CompleteURL, ""))
}

// direct are a ticket's fields for the store itself, past the network that is cut.
func direct(t *testing.T, w *world, id string) map[string]string {
	t.Helper()
	_, fields, err := w.objects.PostPolicy(t.Context(), tenant, id, 1<<20, time.Now().Add(time.Hour))
	ok(t, err)
	return fields
}
