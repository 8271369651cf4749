// Which ids are those of jobs or profiles.

package projections

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Known are those of the ids, of whichever tenant, that are a job's or a profile's.
func (q *Queries) Known(ctx context.Context, ids []string) (map[string]bool, error) {
	rows, err := q.tx.Query(ctx, "SELECT id FROM "+views+".jobs WHERE id = ANY($1) UNION SELECT id FROM "+views+".profiles WHERE id = ANY($1)", ids)
	if err != nil {
		return nil, fmt.Errorf("cannot look for jobs and profiles by their ids: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("cannot look for jobs and profiles by their ids: %w", err)
	}
	known := make(map[string]bool, len(found))
	for _, id := range found {
		known[id] = true
	}
	return known, nil
}
