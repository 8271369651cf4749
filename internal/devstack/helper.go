// The helper binary myspinbot-devstack: a Kafka-compatible log and an S3 store in one process.

package devstack

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Helper says how to run myspinbot-devstack. Only Dir is required.
type Helper struct {
	// Dir keeps the log and the objects between runs and is made when missing.
	Dir string
	// Bin is the program. Default: what HelperBin finds.
	Bin string
	// LogAddr and S3Addr are 127.0.0.1:PORT. Default: free ports, kept for the life of the
	// HelperServer.
	LogAddr, S3Addr string
	// AccessKey and SecretKey of the S3 store. Default: random ones.
	AccessKey, SecretKey string
	// NoLog and NoS3 leave that part out.
	NoLog, NoS3 bool
	// Log gets the program's messages; nil: nobody, but errors still carry the last ones.
	Log io.Writer
}

// HelperServer is a running myspinbot-devstack. Its log survives Stop and Start, but Kill may
// lose or double what was committed last: see the command's own documentation.
type HelperServer struct {
	server
	// AccessKey and SecretKey open the S3 store.
	AccessKey, SecretKey string

	config Helper
	ready  *readyLine // of the process last begun
}

const (
	helperWithin = 60 * time.Second
	helperGrace  = 30 * time.Second // the log is saved in this time
)

// StartHelper starts myspinbot-devstack. ctx bounds the start. The caller owns the result and
// must Stop it.
func StartHelper(ctx context.Context, c Helper) (*HelperServer, error) {
	if c.Dir == "" {
		return nil, errors.New("cannot start the log and the S3 store: no directory is given for their data")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot start the log and the S3 store in %s: %w", c.Dir, err)
	}
	c.Dir = dir
	if c.Bin == "" {
		if c.Bin, err = HelperBin(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the directory of the log and the S3 store: %w", err)
	}
	if c.AccessKey == "" {
		c.AccessKey = rand.Text()
	}
	if c.SecretKey == "" {
		c.SecretKey = rand.Text()
	}
	s := &HelperServer{AccessKey: c.AccessKey, SecretKey: c.SecretKey, config: c}
	s.within, s.begin = helperWithin, s.run
	s.probe = func(context.Context) error { return s.ready.arrived() }
	err = s.startOnFreePort(ctx, func() (err error) {
		if s.config.LogAddr, err = s.addrOr(c.LogAddr); err == nil {
			s.config.S3Addr, err = s.addrOr(c.S3Addr)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// addrOr returns given, or an address with a free port when that is empty.
func (s *server) addrOr(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	port, err := s.freePort()
	return localAddr(port), err
}

// Kafka is the log's bootstrap address as host:port, empty with NoLog. It stays the same over
// Stop and Start.
func (s *HelperServer) Kafka() string {
	if s.config.NoLog {
		return ""
	}
	return s.config.LogAddr
}

// S3 is the store's base URL as http://host:port, empty with NoS3. The region is us-east-1 and
// buckets are addressed by path.
func (s *HelperServer) S3() string {
	if s.config.NoS3 {
		return ""
	}
	return "http://" + s.config.S3Addr
}

func (s *HelperServer) run() (*process, error) {
	c := s.config
	args := []string{"--data", c.Dir, "--log-addr", c.LogAddr, "--s3-addr", c.S3Addr}
	if c.NoLog {
		args = append(args, "--no-log")
	}
	if c.NoS3 {
		args = append(args, "--no-s3")
	}
	s.ready = &readyLine{}
	return start(command{
		name: "myspinbot-devstack", path: c.Bin, args: args, dir: c.Dir,
		// The keys go through the environment, since everybody may read a command line.
		env:  append(os.Environ(), "MYSPINBOT_S3_ACCESS_KEY="+s.AccessKey, "MYSPINBOT_S3_SECRET_KEY="+s.SecretKey),
		stop: syscall.SIGTERM, grace: helperGrace, log: c.Log, stdout: s.ready,
	})
}

// readyLine takes the program's standard output, which is one line of JSON once it serves.
type readyLine struct {
	mu  sync.Mutex
	got []byte
}

func (r *readyLine) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if room := maxAnswer - len(r.got); room > 0 {
		r.got = append(r.got, b[:min(room, len(b))]...)
	}
	return len(b), nil
}

func (r *readyLine) arrived() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var line struct {
		Pid int `json:"pid"`
	}
	if err := json.Unmarshal(r.got, &line); err != nil || line.Pid == 0 {
		return fmt.Errorf("it has not announced its addresses, only %q", r.got)
	}
	return nil
}
