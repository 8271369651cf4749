// Command myspinbot-devstack runs the two servers that a single development machine needs beside
// PostgreSQL: a Kafka-compatible log (kfake) and an S3 store (versitygw), both on 127.0.0.1 and
// both keeping their data in one directory. It is a module and a program of its own, so that
// neither of them reaches the production binary. `myspinbot dev` and the tests start it.
//
// What belongs here: starting, announcing and stopping these two. What may not: topics, buckets,
// or anything that knows what MySpinBot stores in them.
//
// When both servers answer, it prints one line of JSON on standard output, and nothing else ever:
//
//	{"kafka":"127.0.0.1:20001","s3":"http://127.0.0.1:20002","pid":4711}
//
// It ends with status 0 on SIGTERM, on SIGINT, and when the process that started it is gone.
//
// The log keeps every promise over such an end, but not over a SIGKILL of this program: then
// committed transactions can be lost to readers or doubled. Where that matters, run a real broker.
package main

// This file reads the flags, and starts and stops the parts in order.

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	// A parent that dies takes the other end of our pipes with it. Writing to them must fail
	// quietly then, and not kill this program before the log is saved.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	ctx = whileParentLives(ctx)

	// versitygw greets on standard output, which belongs to the ready line alone.
	ready := os.Stdout
	os.Stdout = os.Stderr

	err := serve(ctx, os.Args[1:], ready)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "myspinbot-devstack:", err)
		os.Exit(1)
	}
}

// options are the flags, checked.
type options struct {
	data      string // absolute
	logAddr   string // empty: no log
	s3Addr    string // empty: no S3
	accessKey string
	secretKey string
}

// Environment variables that replace the flags of the same meaning. A secret given as a flag can
// be read by everyone who may list processes.
const (
	envAccessKey = "MYSPINBOT_S3_ACCESS_KEY"
	envSecretKey = "MYSPINBOT_S3_SECRET_KEY" //nolint:gosec // the name of a variable, not its value
)

func parse(args []string, getenv func(string) string) (options, error) {
	var o options
	var noLog, noS3 bool
	flags := flag.NewFlagSet("myspinbot-devstack", flag.ContinueOnError)
	flags.StringVar(&o.data, "data", "", "`directory` that keeps the log and the objects (required)")
	flags.StringVar(&o.logAddr, "log-addr", "127.0.0.1:0", "`address` of the log; port 0 takes a free one")
	flags.StringVar(&o.s3Addr, "s3-addr", "127.0.0.1:0", "`address` of the S3 store; port 0 takes a free one")
	flags.StringVar(&o.accessKey, "s3-access-key", getenv(envAccessKey), "access `key` of the S3 store; default $"+envAccessKey)
	flags.StringVar(&o.secretKey, "s3-secret-key", "", "secret `key` of the S3 store; default $"+envSecretKey)
	flags.BoolVar(&noLog, "no-log", false, "do not run the log")
	flags.BoolVar(&noS3, "no-s3", false, "do not run the S3 store")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.secretKey == "" {
		o.secretKey = getenv(envSecretKey)
	}
	if noLog {
		o.logAddr = ""
	}
	if noS3 {
		o.s3Addr = ""
	}
	return o, o.check(flags.Args())
}

func (o *options) check(rest []string) error {
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	if len(rest) > 0 {
		fault("unknown argument %q: this program takes flags only, see --help", rest[0])
	}
	if o.data == "" {
		fault("--data is missing: name the directory that keeps the log and the objects")
	} else if abs, err := filepath.Abs(o.data); err != nil {
		fault("cannot use --data %q: %w", o.data, err)
	} else {
		o.data = abs
	}
	if o.logAddr == "" && o.s3Addr == "" {
		fault("--no-log and --no-s3 together leave nothing to run: drop one of them")
	}
	for _, a := range []struct{ flag, addr string }{{"--log-addr", o.logAddr}, {"--s3-addr", o.s3Addr}} {
		if a.addr == "" {
			continue
		}
		// The log always announces 127.0.0.1, and the S3 store speaks plain HTTP.
		if at, err := net.ResolveTCPAddr("tcp", a.addr); err != nil || at.IP.String() != "127.0.0.1" {
			fault("%s %q cannot be used: give 127.0.0.1:PORT, with port 0 for a free one", a.flag, a.addr)
		}
	}
	if o.s3Addr != "" && (o.accessKey == "" || o.secretKey == "") {
		fault("the S3 store needs both keys: set %s and %s, or give --s3-access-key and --s3-secret-key", envAccessKey, envSecretKey)
	}
	return errors.Join(faults...)
}

// serve runs what args ask for until ctx ends. It writes the ready line to ready once.
func serve(ctx context.Context, args []string, ready io.Writer) (err error) {
	o, err := parse(args, os.Getenv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unlock, err := lockData(o.data)
	if err != nil {
		return err
	}
	defer unlock()

	line := struct {
		Kafka string `json:"kafka,omitempty"`
		S3    string `json:"s3,omitempty"`
		Pid   int    `json:"pid"`
	}{Pid: os.Getpid()}

	if o.logAddr != "" {
		log, err := openLog(filepath.Join(o.data, "log"), o.logAddr)
		if err != nil {
			return err
		}
		defer log.Close() // saves; must come after every write
		line.Kafka = log.ListenAddrs()[0]
	}
	var storeEnded chan struct{} // nil without a store, and then never ready
	if o.s3Addr != "" {
		store, err := openStore(ctx, filepath.Join(o.data, "s3"), o)
		if err != nil {
			return err
		}
		defer func() {
			cancel()
			err = errors.Join(err, store.wait())
		}()
		line.S3 = "http://" + store.addr
		storeEnded = store.ended
	}
	if err := json.NewEncoder(ready).Encode(line); err != nil {
		return fmt.Errorf("cannot announce the addresses: %w", err)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-storeEnded:
		if ctx.Err() == nil {
			return errors.New("the S3 store ended by itself")
		}
		return nil
	}
}

// lockData makes dir and keeps a second program off it: two writers would ruin the log.
func lockData(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock of the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(
			fmt.Errorf("another program is using %s: stop it, or choose another --data: %w", dir, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing drops the lock; nothing was written
}

// whileParentLives returns a context that also ends when this process gets another parent, which
// is what happens to a child whose parent died.
func whileParentLives(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	parent := os.Getppid()
	go func() {
		look := time.NewTicker(250 * time.Millisecond)
		defer look.Stop()
		for os.Getppid() == parent {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
		}
		cancel()
	}()
	return ctx
}
