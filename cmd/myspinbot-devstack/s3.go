// The S3 store: versitygw over plain files.

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

const (
	// maxCopy is S3's limit for one CopyObject. Left at 0, every copy is refused as too large.
	maxCopy    = 5 << 30
	healthPath = "/healthz"
	// readyWithin bounds the store's start, which takes milliseconds on an idle machine.
	readyWithin = 30 * time.Second
)

// store is the running gateway.
type store struct {
	addr  string
	ended chan struct{}
	err   error // set before ended is closed
}

// wait returns when the gateway has ended: nil when its context ended it.
func (s *store) wait() error {
	<-s.ended
	return s.err
}

// openStore starts the store with its objects in dir/objects and their metadata in dir/meta, and
// returns when it answers. It runs until ctx ends; wait returns after that.
func openStore(ctx context.Context, dir string, o options) (*store, error) {
	// Metadata in files of their own need no extended attributes, which some disks lack. The
	// second directory must not begin with the first one's name.
	objects, sidecar := filepath.Join(dir, "objects"), filepath.Join(dir, "meta")
	for _, d := range []string{objects, sidecar} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("cannot make the directory of the S3 store: %w", err)
		}
	}
	attributes, err := meta.NewSideCar(sidecar)
	if err != nil {
		return nil, fmt.Errorf("cannot open the metadata of the S3 store in %s: %w", sidecar, err)
	}
	files, err := posix.New(objects, attributes, posix.PosixOpts{SideCarDir: sidecar, CopyObjectThreshold: maxCopy})
	if err != nil {
		return nil, fmt.Errorf("cannot open the objects of the S3 store in %s: %w", objects, err)
	}
	addr, err := chooseAddr(o.s3Addr)
	if err != nil {
		return nil, err
	}
	s := &store{addr: addr, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.err = embedgw.RunVersityGW(ctx, files, &embedgw.Config{
			RootUserAccess: o.accessKey, RootUserSecret: o.secretKey, Region: "us-east-1",
			Ports: []string{addr}, MaxConnections: 1024, MaxRequests: 512, MultipartMaxParts: 10000,
			KeepAlive: true, Quiet: true, HealthPath: healthPath,
		})
	}()
	if err := s.answers(ctx); err != nil {
		return nil, fmt.Errorf("cannot run the S3 store in %s on %s: %w", dir, addr, err)
	}
	return s, nil
}

// answers returns nil once the health page does.
func (s *store) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+healthPath, nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			err = res.Body.Close()
			if err == nil && res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.ended:
			return errors.Join(errors.New("it ended at once"), s.err)
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
}

// chooseAddr replaces port 0 by a free port: the gateway takes an address, not a listener. The
// moment in between is short; a launcher that loses the port to another process starts anew.
func chooseAddr(addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", fmt.Errorf("cannot listen on %s for the S3 store: %w", addr, err)
	}
	chosen := l.Addr().String()
	if err := l.Close(); err != nil {
		return "", fmt.Errorf("cannot free %s for the S3 store: %w", chosen, err)
	}
	return chosen, nil
}
