// Tests with a real PostgreSQL.

package devstack

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// query runs one statement on a connection of its own and returns the first value.
func query(ctx context.Context, url, sql string) (string, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var value string
	err = conn.QueryRow(ctx, sql).Scan(&value)
	return value, err
}

func mustQuery(t *testing.T, ctx context.Context, url, sql, want string) {
	t.Helper()
	got, err := query(ctx, url, sql)
	if err != nil || got != want {
		t.Fatalf("%s: got %q, %v, want %q", sql, got, err, want)
	}
}

func TestPostgresKeepsAddressAndDataOverStopAndKill(t *testing.T) {
	t.Parallel()
	ctx := within(t, 3*time.Minute)
	// A test's directory lies below one of mode 0700, which PostgreSQL's own user cannot enter.
	dir := filepath.Join(t.TempDir(), "pg")
	var log strings.Builder
	pg, err := StartPostgres(ctx, Postgres{Dir: dir, Settings: map[string]string{"fsync": "off", "max_connections": "37"}, Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, pg)
	url := pg.URL()
	if os.Geteuid() == 0 && ownerOf(t, pg.Pid()) == "0" {
		t.Error("PostgreSQL runs as root")
	}
	mustQuery(t, ctx, url, "SHOW max_connections", "37")
	mustQuery(t, ctx, url, "SHOW listen_addresses", "127.0.0.1")
	mustQuery(t, ctx, url, "WITH made AS (SELECT 1) SELECT current_user::text FROM made", "app")
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE TABLE kept (value text); INSERT INTO kept VALUES ('first')"); err != nil {
		t.Fatal(err)
	}

	// With a client still connected: a clean stop does not wait for it.
	if err := pg.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := query(ctx, url, "SELECT 1"); err == nil {
		t.Error("a stopped PostgreSQL answers")
	}
	if err := pg.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if pg.URL() != url {
		t.Errorf("the address changed from %s to %s", url, pg.URL())
	}
	mustQuery(t, ctx, url, "SELECT value FROM kept", "first")

	pg.Kill()
	// Its own children hold the memory of the killed server for a moment.
	eventually(t, time.Minute, func() error { return pg.Start(ctx) })
	mustQuery(t, ctx, url, "SELECT value FROM kept", "first")

	if err := pg.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	mustQuery(t, ctx, url, "SELECT value FROM kept", "first")
	if err := pg.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	again, err := StartPostgres(ctx, Postgres{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, again)
	mustQuery(t, ctx, again.URL(), "SELECT value FROM kept", "first")
	if !strings.Contains(log.String(), "database system is shut down") {
		t.Error("the log did not get the server's output")
	}
}

func TestPostgresNamesAWrongSetting(t *testing.T) {
	t.Parallel()
	_, err := StartPostgres(within(t, 2*time.Minute), Postgres{Dir: t.TempDir(), Settings: map[string]string{"no_such_setting": "on"}})
	mustContain(t, err, "PostgreSQL", "no_such_setting")
}

func TestPostgresRemovesAHalfMadeDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "data.half", "base"), 0o755); err != nil {
		t.Fatal(err)
	}
	pg, err := StartPostgres(within(t, 2*time.Minute), Postgres{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, pg)
	mustQuery(t, within(t, time.Minute), pg.URL(), "SELECT 'whole'::text", "whole")
}

func TestPostgresNeedsADirectory(t *testing.T) {
	t.Parallel()
	_, err := StartPostgres(t.Context(), Postgres{})
	mustContain(t, err, "no directory")
}

func TestOpenWayOpensScratchSpaceAlone(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	closed := filepath.Join(temp, "closed")
	inside := filepath.Join(closed, "data")
	for _, d := range []string{closed, inside} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere := t.TempDir()
	mustContain(t, openWay(inside, elsewhere), inside, "mode 0700", "/var/lib")
	// Below temp both are opened; what is above belongs to the testing package, below os.TempDir.
	if err := openWay(inside, os.TempDir()); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{closed, inside} {
		info, err := os.Stat(d)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o711 {
			t.Errorf("%s has mode %04o, want 0711: search, not read", d, got)
		}
	}
}

func TestPostgresReadyWaitsForTheServersWord(t *testing.T) {
	t.Parallel()
	fatal := "E\x00\x00\x00\x2bSFATAL\x00C57P03\x00Mis starting up\x00...........\x00"
	for name, c := range map[string]struct{ answer, want string }{
		"starting up":   {fatal, "is starting up"},
		"another one":   {"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak PostgreSQL's protocol"},
		"nothing":       {"", "EOF"},
		"ready for use": {"R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := postgresReady(within(t, time.Minute), answering(t, c.answer), "app")
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			mustContain(t, err, c.want)
		})
	}
}

// answering is the address of a server that reads a little, says answer and closes.
func answering(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1024))
		_, _ = conn.Write([]byte(answer))
	}()
	return l.Addr().String()
}
