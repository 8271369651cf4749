package main

// This file measures what clients notice of others that hold connections and hardly send.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"
)

const (
	slowEvery  = time.Second // from one byte of a slow client to its next
	fastAtOnce = 4           // clients that are measured, each over one connection
)

// measureSlowClients times a page of jobs, alone and while 2,000 connections send a
// header byte by byte. A connection that is cut for its slowness comes again.
func measureSlowClients(ctx context.Context, s setting) (_ []Result, err error) {
	services := &services{}
	defer func() { err = errors.Join(err, services.stop()) }()
	if err := services.start(ctx, s.dir); err != nil {
		return nil, err
	}
	var alone, beside []float64
	slow, requests := size("SLOW_CLIENTS", 2000), size("SLOW_REQUESTS", 4000)
	_, err = services.whileReady(ctx, filepath.Join(s.root, "bin", "myspinbot"), "api,projector", func(p running) error {
		url := "http://" + p.addr + "/api/jobs"
		if _, err := timedGets(ctx, url, requests); err != nil { // warms up both sides
			return err
		}
		for i := range s.rounds {
			usual, err := timedGets(ctx, url, requests)
			if err != nil {
				return err
			}
			leave, err := slowClients(ctx, p.addr, slow)
			if err != nil {
				return err
			}
			held, err := timedGets(ctx, url, requests)
			if err = errors.Join(err, leave()); err != nil {
				return err
			}
			alone, beside = append(alone, milliseconds(quantile(usual, 0.99))), append(beside, milliseconds(quantile(held, 0.99)))
			fmt.Fprintf(s.progress, "  round %d: p99 %.2f ms alone, %.2f ms beside %d slow clients\n", i+1, alone[i], beside[i], slow)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []Result{newResult("slow_clients.p99", "ms", beside).against("the same without slow clients", alone)}, nil
}

// timedGets gets the URL so often, and gives how long each took, in no order.
func timedGets(ctx context.Context, url string, n int) ([]time.Duration, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: fastAtOnce}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var taken []time.Duration
	var faults []error
	for range fastAtOnce {
		wg.Go(func() {
			own, err := getAgain(ctx, client, url, n/fastAtOnce)
			mu.Lock()
			defer mu.Unlock()
			taken, faults = append(taken, own...), append(faults, err)
		})
	}
	wg.Wait()
	return taken, errors.Join(faults...)
}

func getAgain(ctx context.Context, client *http.Client, url string, n int) (taken []time.Duration, err error) {
	for range n {
		began := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s answered %d", url, resp.StatusCode)
		}
		taken = append(taken, time.Since(began))
	}
	return taken, nil
}

// slowClients opens n connections, each in the middle of a header that never ends,
// until leave is called.
func slowClients(ctx context.Context, addr string, n int) (leave func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var once sync.Once
	var fault error
	leave = func() error { cancel(); wg.Wait(); return fault }
	for range n {
		c, err := beginSlowly(ctx, addr)
		if err != nil {
			return nil, errors.Join(err, leave())
		}
		wg.Go(func() {
			if err := sendSlowly(ctx, addr, c); err != nil {
				once.Do(func() { fault = err })
			}
		})
	}
	return leave, nil
}

func beginSlowly(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot connect slowly: %w", err)
	}
	w := bufio.NewWriter(c)
	fmt.Fprintf(w, "GET /api/jobs HTTP/1.1\r\nHost: %s\r\nX-Slow: ", addr)
	if err := w.Flush(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot begin a slow request: %w", err), c.Close())
	}
	return c, nil
}

// sendSlowly sends until ctx ends, over another connection where the server has cut one.
func sendSlowly(ctx context.Context, addr string, c net.Conn) (err error) {
	defer func() { err = errors.Join(err, c.Close()) }()
	tick := time.NewTicker(slowEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := c.Write([]byte("x")); err == nil {
			continue
		}
		again, err := beginSlowly(ctx, addr)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		_ = c.Close() // the server has
		c = again
	}
}
