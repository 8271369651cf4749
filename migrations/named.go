// Tables in a schema that somebody named: a copy to look at, which no projector keeps up to date.

package migrations

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrSchemaName says that a schema's name cannot be used for a copy of the tables.
var ErrSchemaName = errors.New("the schema's name cannot be used")

var (
	plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)
	ownName   = regexp.MustCompile(`^(gen_.*|myspinbot|public|information_schema|pg_.*)$`)
)

// CheckName says whether a copy of the tables may have that schema: nil or ErrSchemaName with the reason.
func CheckName(schema string) error {
	switch {
	case !plainName.MatchString(schema):
		return fmt.Errorf("%w: %q is not made of lower-case letters, digits and _, at most 63, not starting with a digit", ErrSchemaName, schema)
	case ownName.MatchString(schema):
		return fmt.Errorf("%w: %q belongs to the live tables or to PostgreSQL (gen_…, myspinbot, public, pg_…); choose another, such as before_the_incident", ErrSchemaName, schema)
	}
	return nil
}

// CreateNamed makes the schema with empty tables of this program's shape; about says
// in the database what is in it. A schema that exists is left alone: ErrSchemaName.
func CreateNamed(ctx context.Context, tx pgx.Tx, schema, about string) error {
	if err := CheckName(schema); err != nil {
		return err
	}
	var exists, reserved bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1),
		EXISTS (SELECT FROM pg_get_keywords() WHERE word = $1 AND catcode IN ('R', 'T'))`, schema).Scan(&exists, &reserved)
	switch {
	case err != nil:
		return fmt.Errorf("cannot look for the schema %s: %w", schema, err)
	case reserved:
		return fmt.Errorf("%w: %q is a word of SQL; choose another", ErrSchemaName, schema)
	case exists:
		return fmt.Errorf("%w: %s exists; choose another name, or drop it with: DROP SCHEMA %s CASCADE", ErrSchemaName, schema, schema)
	}
	for _, sql := range []string{"CREATE SCHEMA " + schema, "COMMENT ON SCHEMA " + schema + " IS '" + strings.ReplaceAll(about, "'", "''") + "'"} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("cannot create the schema %s: %w", schema, err)
		}
	}
	return within(ctx, tx, schema, wholeSQL())
}
