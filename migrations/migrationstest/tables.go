// Package migrationstest gives the tests of packages that read or write the tables a
// database that has them.
//
// What belongs here: tables as a projector leaves them on an empty log. What may not:
// rows, and anything that the program itself uses.
package migrationstest

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/migrations"
)

// EmptyTables makes a live generation without rows.
func EmptyTables(ctx context.Context, pool *pgxpool.Pool) error {
	if err := migrations.Apply(ctx, pool); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		g, err := migrations.Begin(ctx, tx, []string{})
		if err != nil {
			return err
		}
		for _, t := range migrations.Tables() {
			if err := migrations.Complete(ctx, tx, g.Number, t); err != nil {
				return err
			}
		}
		return migrations.PointViews(ctx, tx, g.Number, migrations.Leaving)
	})
}
