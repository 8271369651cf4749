// PostgreSQL: making its data directory, running the server as a direct child (pg_ctl would leave
// it behind when the parent dies) and asking it whether it is ready.

package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Postgres says how to run PostgreSQL. Only Dir is required.
type Postgres struct {
	// Dir keeps the data (in Dir/data) between runs and is made when missing. A relative path
	// counts from the working directory. When this process runs as root, PostgreSQL runs as the
	// user postgres, else nobody, and that user must be able to reach Dir: every directory above
	// it needs the search permission. Below the temporary directory StartPostgres grants that.
	Dir string
	// BinDir holds initdb and postgres. Default: what PostgresBin finds.
	BinDir string
	// Port on 127.0.0.1. Default: a free one, kept for the life of the PostgresServer.
	Port int
	// Settings are server settings for this run, such as "fsync": "off" for tests.
	Settings map[string]string
	// Log gets the output of initdb and the server; nil: nobody, but errors still carry its end.
	Log io.Writer
}

// PostgresServer is a running PostgreSQL. Everybody on this machine may log in as its superuser
// "app" without a password, so it is for development and tests alone.
type PostgresServer struct {
	server
	port int
}

const (
	postgresUser = "app"
	initdbWithin = 2 * time.Minute
	// postgresWithin includes crash recovery on a machine that is busy with other tests.
	postgresWithin = 90 * time.Second
	postgresGrace  = 20 * time.Second
)

// StartPostgres makes the data directory if there is none and starts PostgreSQL on it. ctx bounds
// the start. The caller owns the result and must Stop it.
func StartPostgres(ctx context.Context, c Postgres) (*PostgresServer, error) {
	if c.Dir == "" {
		return nil, errors.New("cannot start PostgreSQL: no directory is given for its data")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot start PostgreSQL in %s: %w", c.Dir, err)
	}
	c.Dir = dir
	if c.BinDir == "" {
		if c.BinDir, err = PostgresBin(); err != nil {
			return nil, err
		}
	}
	cred, err := c.prepare()
	if err != nil {
		return nil, err
	}
	if err := c.initdb(ctx, cred); err != nil {
		return nil, err
	}

	s := &PostgresServer{port: c.Port}
	s.within = postgresWithin
	s.begin = func() (*process, error) { return start(c.server(s.port, cred)) }
	s.probe = func(ctx context.Context) error { return postgresReady(ctx, localAddr(s.port), postgresUser) }
	err = s.startOnFreePort(ctx, func() (err error) {
		if c.Port == 0 {
			s.port, err = s.freePort()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// URL is the address of the database "postgres" for its superuser, as
// postgres://app@127.0.0.1:PORT/postgres?sslmode=disable. It stays the same over Stop and Start.
func (s *PostgresServer) URL() string { return s.DatabaseURL("postgres") }

// DatabaseURL is the address of another database of this server, which need not exist yet.
func (s *PostgresServer) DatabaseURL(database string) string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", postgresUser, localAddr(s.port), database)
}

// prepare makes Dir and returns the user to run as: nil for the present one.
func (c Postgres) prepare() (*syscall.Credential, error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the directory of PostgreSQL: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil, nil
	}
	cred, name, err := unprivileged()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{c.BinDir, c.Dir} {
		if err := openWay(dir, os.TempDir()); err != nil {
			return nil, fmt.Errorf("cannot run PostgreSQL as the user %s (it refuses to run as root): %w", name, err)
		}
	}
	// PostgreSQL makes its data directory beside where it will lie, so Dir is its own as well.
	if err := os.Chown(c.Dir, int(cred.Uid), int(cred.Gid)); err != nil {
		return nil, fmt.Errorf("cannot give the directory of PostgreSQL to the user %s: %w", name, err)
	}
	return cred, nil
}

func (c Postgres) data() string { return filepath.Join(c.Dir, "data") }

// initdb makes the data directory under another name first, so that one left half made by a crash
// is never taken for a whole one.
func (c Postgres) initdb(ctx context.Context, cred *syscall.Credential) error {
	if isFile(filepath.Join(c.data(), "PG_VERSION")) {
		return nil
	}
	half := c.data() + ".half"
	if err := os.RemoveAll(half); err != nil {
		return fmt.Errorf("cannot remove a data directory of PostgreSQL that was left half made: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, initdbWithin)
	defer cancel()
	err := run(ctx, command{
		name: "initdb", path: filepath.Join(c.BinDir, "initdb"), dir: c.Dir, env: postgresEnv(), cred: cred,
		args: []string{"-D", half, "-U", postgresUser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"},
		stop: syscall.SIGINT, log: c.Log,
	})
	if err != nil {
		return fmt.Errorf("cannot make the data directory of PostgreSQL: %w", err)
	}
	if err := os.Rename(half, c.data()); err != nil {
		return fmt.Errorf("cannot put the data directory of PostgreSQL in place: %w", err)
	}
	return nil
}

// server is the command of the server itself. SIGINT is PostgreSQL's fast shutdown: it cuts its
// clients off and ends cleanly.
func (c Postgres) server(port int, cred *syscall.Credential) command {
	args := []string{"-D", c.data(), "-p", strconv.Itoa(port),
		"-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", // their paths may not be longer than 107 bytes, TCP is enough
	}
	for _, name := range slices.Sorted(maps.Keys(c.Settings)) {
		args = append(args, "-c", name+"="+c.Settings[name])
	}
	return command{
		name: "PostgreSQL", path: filepath.Join(c.BinDir, "postgres"), args: args, dir: c.Dir, env: postgresEnv(), cred: cred,
		stop: syscall.SIGINT, grace: postgresGrace, log: c.Log,
	}
}

// postgresEnv keeps settings of the user's own PostgreSQL (PGDATA, PGPORT …) out of this one, and
// its messages in English.
func postgresEnv() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") })
	return append(env, "LC_ALL=C", "TZ=UTC")
}
