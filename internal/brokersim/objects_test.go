//go:build synctests

// An object store that holds one empty bucket. The engine that makes nothing needs
// no other; what asks it for a key is told that there is none.

package brokersim_test

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/myspinbot/myspinbot/internal/objects"
)

func emptyStore(ctx context.Context) (*objects.Store, error) {
	return objects.Open(ctx, objects.Config{Endpoint: "store", AccessKey: "a", SecretKey: "s", Bucket: "bucket", Transport: emptyBucket{}})
}

type emptyBucket struct{}

// RoundTrip answers without a network, which would stop the fake clock.
func (emptyBucket) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	answer := &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, Request: r}
	if strings.Trim(r.URL.Path, "/") != "bucket" {
		answer.StatusCode = http.StatusNotFound
		answer.Header.Set("Content-Type", "application/xml")
		answer.Body = io.NopCloser(strings.NewReader(`<Error><Code>NoSuchKey</Code></Error>`))
	}
	return answer, nil
}
