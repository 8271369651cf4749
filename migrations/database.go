package migrations

// This file makes the database itself, so that one that was dropped heals.

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// maintenance is the database from which another one is made.
const maintenance = "postgres"

// ensureDatabase makes the pool's database if the server has none of that name.
func ensureDatabase(ctx context.Context, pool *pgxpool.Pool) error {
	if err := pool.Ping(ctx); !hasCode(err, "3D000") { // invalid_catalog_name
		return nil // what else is wrong is told by the first statement
	}
	config := pool.Config().ConnConfig.Copy()
	name := config.Database
	config.Database = maintenance
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("the database %q does not exist, and database %q, from which to make it, does not answer: %w", name, maintenance, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	if err == nil || hasCode(err, "42P04", "23505") { // another process was faster
		return nil
	}
	return fmt.Errorf("the database %q does not exist and cannot be made; create it by hand, or let this user create databases: %w", name, err)
}

// hasCode says whether PostgreSQL gave one of these codes.
func hasCode(err error, codes ...string) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	for _, c := range codes {
		if pg.Code == c {
			return true
		}
	}
	return false
}
