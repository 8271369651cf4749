package main

// This file runs the API as a process and asks it over HTTP.

import (
	"context"
	"errors"
	"fmt"

	"github.com/valyala/fasthttp"
)

// api is a running API role and where it listens.
type api struct {
	*role
	addr string
}

// startAPI starts a process that plays api and other roles, and waits until it can serve.
func (d *deployment) startAPI(ctx context.Context, roles string, env ...string) (*api, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	r, err := d.start(ctx, "api", roles, append(env, "MYSPINBOT_HTTP_LISTEN="+addr)...)
	if err != nil {
		return nil, err
	}
	if err := awaitReady(ctx, addr, r.ended); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return &api{r, addr}, nil
}

// url is the address of a path.
func (a *api) url(path string) string { return "http://" + a.addr + path }

// asked is one request of a load, used again and again.
type asked struct {
	client *fasthttp.Client
	req    *fasthttp.Request
	resp   *fasthttp.Response
}

func ask(client *fasthttp.Client, method, url, body string, header ...string) *asked {
	a := &asked{client, fasthttp.AcquireRequest(), fasthttp.AcquireResponse()}
	a.req.Header.SetMethod(method)
	a.req.SetRequestURI(url)
	for i := 0; i+1 < len(header); i += 2 {
		a.req.Header.Set(header[i], header[i+1])
	}
	if body != "" {
		a.req.Header.SetContentType("application/json")
		a.req.SetBodyString(body)
	}
	return a
}

// do sends the request. An answer without the wanted status is an error.
func (a *asked) do(want int) error {
	if err := a.client.Do(a.req, a.resp); err != nil {
		return fmt.Errorf("cannot ask %s: %w", a.req.URI(), err)
	}
	if got := a.resp.StatusCode(); got != want {
		return fmt.Errorf("%s answers %d, not %d: %.300s", a.req.URI(), got, want, a.resp.Body())
	}
	return nil
}

func (a *asked) release() {
	fasthttp.ReleaseRequest(a.req)
	fasthttp.ReleaseResponse(a.resp)
}
