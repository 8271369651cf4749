// Package devstacktest gives tests services that a whole test binary shares.
//
// What belongs here: what several packages' tests start in the same way. What may
// not: anything that the program itself uses; that is package devstack.
package devstacktest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/internal/devstack"
)

// Postgres is a PostgreSQL with a database for each test, made from a template.
type Postgres struct {
	*devstack.PostgresServer
	dir       string
	databases atomic.Int32
}

// StartPostgres starts a PostgreSQL that does not wait for the disk, with settings
// beside, and has prepare fill the template; nil leaves it empty.
func StartPostgres(ctx context.Context, settings map[string]string, prepare func(context.Context, *pgxpool.Pool) error) (*Postgres, error) {
	dir, err := os.MkdirTemp("", "myspinbot-postgres-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a folder for PostgreSQL: %w", err)
	}
	all := map[string]string{"fsync": "off"}
	maps.Copy(all, settings)
	p := &Postgres{dir: dir}
	if p.PostgresServer, err = devstack.StartPostgres(ctx, devstack.Postgres{Dir: dir, Settings: all}); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := p.makeTemplate(ctx, prepare); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot prepare the template of the tests: %w", err), p.Close())
	}
	return p, nil
}

// Close stops the server and removes its files.
func (p *Postgres) Close() error {
	return errors.Join(p.Stop(context.Background()), os.RemoveAll(p.dir))
}

func (p *Postgres) makeTemplate(ctx context.Context, prepare func(context.Context, *pgxpool.Pool) error) error {
	if err := p.create(ctx, "template", "template1"); err != nil || prepare == nil {
		return err
	}
	pool, err := pgxpool.New(ctx, p.DatabaseURL("template"))
	if err != nil {
		return err
	}
	defer pool.Close() // no connection may be left, or the template cannot be copied
	return prepare(ctx, pool)
}

func (p *Postgres) create(ctx context.Context, name, template string) error {
	conn, err := pgx.Connect(ctx, p.URL())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template)
	return errors.Join(err, conn.Close(ctx))
}

// Create makes a database of this test alone and returns its name.
func (p *Postgres) Create(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", p.databases.Add(1))
	if err := p.create(context.Background(), name, "template"); err != nil {
		t.Fatal(err)
	}
	return name
}

// Database is a pool on a database of this test alone.
func (p *Postgres) Database(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), p.DatabaseURL(p.Create(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
