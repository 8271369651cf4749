// /health and /metrics of a process that does not play the api role.

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ops listens at once, so that a wrong address is a failure to start.
func (p *process) ops() (func(context.Context) error, error) {
	listener, err := net.Listen("tcp", p.cfg.Ops.Listen)
	if err != nil {
		return nil, fmt.Errorf("ops.listen cannot be used: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, `{"status":"ok"}`)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	p.logger.Info("health and metrics are shown", "at", "http://"+listener.Addr().String())
	return func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { server.Close() }) //nolint:errcheck // nothing is lost with a scrape
		defer stop()
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}, nil
}
