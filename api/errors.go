// Errors: the one table from code to status and sentence, and problem documents (RFC 9457).

package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/objects"
	"github.com/myspinbot/myspinbot/projections"
)

// Codes of problems. A client may compare with them; the sentences may change.
const (
	codeRequestMalformed = "request_malformed"
	codeJSONMalformed    = "json_malformed"
	codeQueryInvalid     = "query_invalid"
	codeKeyInvalid       = "idempotency_key_invalid"
	codeOriginForbidden  = "origin_forbidden"
	codeHostForbidden    = "host_forbidden"
	codeNotFound         = "not_found"
	codeMethodNotAllowed = "method_not_allowed"
	codeNotAcceptable    = "not_acceptable"
	codeUpgrade          = "upgrade_required"
	codeTimeout          = "request_timeout"
	codeKeyConflict      = "idempotency_conflict"
	codeJobEnded         = "job_ended"
	codeJobNotEnded      = "job_not_ended"
	codeNotWaiting       = "not_waiting_for_approval"
	codeCommandRefused   = "command_refused"
	codeGone             = "artifact_gone"
	codeContentErased    = "content_erased"
	codeJobArchived      = "job_archived"
	codeTooLarge         = "body_too_large"
	codeMediaType        = "media_type_unsupported"
	codeRange            = "range_invalid"
	codeInvalid          = "request_invalid"
	codeFileInvalid      = "file_invalid"
	codeIDInvalid        = "id_invalid"
	codeHeadersTooLarge  = "headers_too_large"
	codeInternal         = "internal"
	codeLogUnavailable   = "log_unavailable"
	codeTablesDown       = "tables_unavailable"
	codeTablesBehind     = "tables_behind"
	codeObjectsDown      = "objects_unavailable"
	codeNoWorkers        = "no_workers"
	codeToolMissing      = "engine_unavailable"
	codeBusy             = "busy"
	codeProfileErased    = "profile_erased"
	codeProfileUnread    = "profile_unreadable"
	codeJobUnread        = "job_unreadable"
	codeConnections      = "too_many_connections"
	codeRate             = "rate_limited"
	codeQueueFull        = "queue_full"
	codeKeyMissing       = "key_missing"
	codeKeyUnknown       = "key_invalid"
	codeScopeMissing     = "scope_missing"
	codeTenantMissing    = "tenant_missing"
	codeKeysUnread       = "keys_unread"
	codeIssuerDown       = "issuer_unavailable"
)

// kind is what a code means in HTTP. The detail stands in where an error brings no sentence of its own.
type kind struct {
	status     int
	retryAfter int // seconds; 0: no header
	title      string
	detail     string
}

var kinds = map[string]kind{
	codeRequestMalformed: {400, 0, "The request cannot be read", "send a well-formed HTTP/1.1 request"},
	codeJSONMalformed:    {400, 0, "The body is not valid JSON", "send one JSON object in UTF-8"},
	codeQueryInvalid:     {400, 0, "A query parameter is not allowed", "see the contract at /api/openapi.json"},
	codeKeyInvalid:       {400, 0, "The Idempotency-Key is not valid", "send 1 to 255 visible ASCII characters"},
	codeKeyMissing:       {401, 0, "This server asks for a key", "send an API key or a token: Authorization: Bearer …; myspinbot keys issue makes keys"},
	codeKeyUnknown:       {401, 0, "The key is not valid", "it was never issued, has expired, or was revoked; use another one, or have one issued: myspinbot keys issue"},
	codeScopeMissing:     {403, 0, "The key lacks a scope", "use a key that has the scope, or have one issued"},
	codeTenantMissing:    {403, 0, "The token does not say whose things it is about", "have the issuer put the tenant into its tokens"},
	codeOriginForbidden:  {403, 0, "Another web site sent this request", "requests that change something must come from this server's own pages, or from a program"},
	codeHostForbidden:    {403, 0, "The request was sent to a name that this server does not have", "use its address, or configure the name"},
	codeNotFound:         {404, 0, "Not found", "there is nothing here; see the contract at /api/openapi.json"},
	codeMethodNotAllowed: {405, 0, "The method is not allowed here", "see the contract at /api/openapi.json"},
	codeNotAcceptable:    {406, 0, "What the client accepts is not what there is here", "this is a stream of server-sent events: send Accept: text/event-stream"},
	codeTimeout:          {408, 0, "The request came too slowly", "send it again"},
	codeJobEnded:         {409, 0, "The job has ended", "a job that has ended never runs again; retry or re-run makes a new one"},
	codeJobNotEnded:      {409, 0, "The job has not ended yet", "wait for its end, or cancel it first"},
	codeNotWaiting:       {409, 0, "The job does not wait for approval", "see its status"},
	codeCommandRefused:   {409, 0, "The job cannot do that now", "see its status"},
	codeGone:             {410, 0, "The file is gone", "its content was erased"},
	codeContentErased:    {410, 0, "The job's content was erased", "make a new job"},
	codeProfileErased:    {410, 0, "The profile was erased", "make a new one; nothing brings it back"},
	codeJobArchived:      {410, 0, "The job is archived", "it ended so long ago that nothing can be asked of it any more"},
	codeTooLarge:         {413, 0, "The body is too large", "send less"},
	codeMediaType:        {415, 0, "The media type is not supported", "see the contract at /api/openapi.json"},
	codeRange:            {416, 0, "The range lies outside of the file", "ask for bytes that exist"},
	codeKeyConflict:      {422, 0, "The Idempotency-Key was used for another request", "use a new key for a new request"},
	codeInvalid:          {422, 0, "The request is not valid", "see errors"},
	codeFileInvalid:      {422, 0, "The file cannot be used", "upload another one"},
	codeIDInvalid:        {422, 0, "The id is not valid", "an id is a UUID, such as 6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d"},
	codeConnections:      {429, 1, "Too many connections are open", "close some, or use one for many requests"},
	codeRate:             {429, 1, "Too many requests in too short a time", "ask again later, and less often"},
	codeQueueFull:        {429, 10, "Too many jobs are open", "send the job again when some have ended"},
	codeUpgrade:          {426, 0, "This is a WebSocket", "connect with a WebSocket client of version 13 (RFC 6455)"},
	codeHeadersTooLarge:  {431, 0, "The headers are too large", "send fewer or smaller headers"},
	codeInternal:         {500, 0, "Something went wrong here", "the server's log says more under this trace id"},
	codeLogUnavailable:   {503, 2, "The log does not answer", "retry with the same Idempotency-Key"},
	codeTablesDown:       {503, 2, "The tables cannot be read now", "jobs are still accepted and run; ask again"},
	codeTablesBehind:     {503, 1, "The tables have not caught up yet", "ask again"},
	codeObjectsDown:      {503, 2, "The object store does not answer", "send the request again"},
	codeNoWorkers:        {503, 5, "No worker is running", "start one with: myspinbot run --roles gpu"},
	codeToolMissing:      {503, 60, "A program is missing on this server", "myspinbot doctor says what to install"},
	codeKeysUnread:       {503, 1, "The keys have not been read yet", "this server has just started; ask again"},
	codeIssuerDown:       {503, 2, "The issuer of tokens does not answer", "ask again, or use an API key"},
	codeBusy:             {503, 1, "Too much at once", "send the request again"},
	codeJobUnread:        {503, 60, "The job was written by a newer program", "upgrade this server"},
	codeProfileUnread:    {503, 60, "The profile was written by a newer program", "upgrade this server"},
}

// fault is one thing wrong with a request: where, a code for machines, what and what is allowed.
type fault struct {
	Pointer   string `json:"pointer,omitempty"`   // JSON pointer into the body (RFC 6901)
	Parameter string `json:"parameter,omitempty"` // query parameter, header or form field
	Code      string `json:"code"`
	Detail    string `json:"detail"`
}

// refusal is an error with a code of the table.
type refusal struct {
	code   string
	detail string // empty: the table's
	faults []fault
	scope  string // that is missing
	jobID  string // of a command whose outcome is not known, or of the job that refused it
	cause  error  // for the server's log alone

	retryAfter int // seconds; 0: the table's
}

func (r *refusal) Error() string {
	s := r.code + ": " + r.detail
	if r.cause != nil {
		s += ": " + r.cause.Error()
	}
	return s
}

func (r *refusal) Unwrap() error { return r.cause }

func refuse(code, format string, args ...any) *refusal {
	return &refusal{code: code, detail: fmt.Sprintf(format, args...)}
}

// invalid refuses a request with every fault that was found.
func invalid(faults ...fault) *refusal {
	details := make([]string, len(faults))
	for i, f := range faults {
		details[i] = f.Detail
	}
	return &refusal{code: codeInvalid, detail: strings.Join(details, "; "), faults: faults}
}

func badParameter(name, format string, args ...any) *refusal {
	detail := fmt.Sprintf(format, args...)
	return &refusal{code: codeQueryInvalid, detail: detail, faults: []fault{{Parameter: name, Code: codeQueryInvalid, Detail: detail}}}
}

// badMedia refuses what was sent as something else than is taken here.
func badMedia(parameter, detail string) *refusal {
	return &refusal{code: codeMediaType, detail: detail, faults: []fault{{Parameter: parameter, Code: codeMediaType, Detail: detail}}}
}

// problemMedia is the media type of a problem (RFC 9457).
const problemMedia = "application/problem+json"

func problemOf(r *refusal, trace string) problem {
	k := kinds[r.code]
	return problem{Type: "urn:myspinbot:problem:" + r.code, Title: k.title, Status: k.status, Code: r.code,
		Detail: cmp.Or(r.detail, k.detail), Errors: r.faults, JobID: r.jobID, TraceID: trace}
}

// wait is when to ask again, as seconds in a header; 0: nothing is gained by it.
func (r *refusal) wait() string { return strconv.Itoa(cmp.Or(r.retryAfter, kinds[r.code].retryAfter)) }

// asRefusal gives every error a code.
func asRefusal(err error) *refusal {
	var r *refusal
	var f *fiber.Error
	switch {
	case errors.As(err, &r):
		return r
	case errors.As(err, &f):
		return ofFiber(f)
	case errors.Is(err, eventlog.ErrUnavailable):
		return &refusal{code: codeLogUnavailable, cause: err}
	case errors.Is(err, objects.ErrUnavailable):
		return &refusal{code: codeObjectsDown, cause: err}
	case errors.Is(err, projections.ErrUnavailable):
		return &refusal{code: codeTablesDown, cause: err}
	case errors.Is(err, projections.ErrNotYet):
		return &refusal{code: codeTablesBehind, cause: err}
	case errors.Is(err, projections.ErrBadCursor):
		return badParameter("cursor", "%s", projections.ErrBadCursor)
	case errors.Is(err, context.DeadlineExceeded):
		return &refusal{code: codeBusy, cause: err}
	}
	return &refusal{code: codeInternal, cause: err}
}

// ofFiber translates what the server says before a handler runs.
func ofFiber(f *fiber.Error) *refusal {
	code := codeInternal
	switch f.Code {
	case fiber.StatusNotFound:
		code = codeNotFound
	case fiber.StatusMethodNotAllowed:
		code = codeMethodNotAllowed
	case fiber.StatusRequestTimeout:
		code = codeTimeout
	case fiber.StatusRequestEntityTooLarge:
		code = codeTooLarge
	case fiber.StatusRequestHeaderFieldsTooLarge:
		code = codeHeadersTooLarge
	case fiber.StatusBadRequest, fiber.StatusBadGateway:
		code = codeRequestMalformed
	}
	return &refusal{code: code, cause: f}
}

// fail is Fiber's error handler: it answers with a problem and logs what only we should know.
func (s *Server) fail(c *fiber.Ctx, err error) error {
	r := asRefusal(err)
	k := kinds[r.code]
	p := problemOf(r, traceID(c))
	if k.status >= fiber.StatusInternalServerError {
		s.log.LogAttrs(c.Context(), slog.LevelError, "a request failed",
			slog.String("trace_id", p.TraceID), slog.String("route", c.Route().Path), slog.String("code", r.code), slog.Any("error", err))
	}
	if wait := r.wait(); wait != "0" {
		c.Set(fiber.HeaderRetryAfter, wait)
	}
	if asks := challenge(r); asks != "" {
		c.Set(fiber.HeaderWWWAuthenticate, asks)
	}
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	c.Status(k.status).Response().ResetBody()
	c.Response().Header.Del(fiber.HeaderContentDisposition)
	c.Set(fiber.HeaderContentType, problemMedia)
	return c.Send(body)
}
