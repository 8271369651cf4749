// How rows travel: a table's columns, the one statement that writes a batch, and reading.

package projections

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
)

// table describes how rows of type T lie in PostgreSQL.
type table[T any] struct {
	name    string
	key     int  // the first key columns are the primary key
	fixed   bool // rows are written once and never change
	columns []column[T]
}

// column is one column of a table. The zero value of a Go field is NULL, except
// for those that are declared with number or flag.
type column[T any] struct {
	name  string
	array string // SQL type of the parameter that carries one batch of it
	cast  string // applied to one element, if not empty
	// once marks a large document that one event sets for good. The fold does not
	// load it; writing NULL over it keeps what is there.
	once   bool
	values func([]*T) (any, error)
	binary func([]byte, *T) ([]byte, error) // appends the field as binary COPY has it
	dest   func(*T) any
}

func text[T any](name string, at func(*T) *string) column[T] {
	return column[T]{
		name: name, array: "text[]",
		values: func(rows []*T) (any, error) {
			out := make([]*string, len(rows))
			for i, r := range rows {
				if s := clean(*at(r)); s != "" {
					out[i] = &s
				}
			}
			return out, nil
		},
		binary: func(b []byte, r *T) ([]byte, error) {
			if s := clean(*at(r)); s != "" {
				return append(fieldSize(b, len(s)), s...), nil
			}
			return fieldNull(b), nil
		},
		dest: func(r *T) any { return (*zeronull.Text)(at(r)) },
	}
}

// flag is true or false, never NULL.
func flag[T any](name string, at func(*T) *bool) column[T] { return number(name, "boolean[]", at) }

// number is a column that is never NULL.
func number[T any, N int32 | int64 | float64 | bool](name, array string, at func(*T) *N) column[T] {
	return column[T]{
		name: name, array: array,
		values: func(rows []*T) (any, error) {
			out := make([]N, len(rows))
			for i, r := range rows {
				out[i] = *at(r)
			}
			return out, nil
		},
		binary: func(b []byte, r *T) ([]byte, error) { return fieldNumber(b, *at(r)), nil },
		dest:   func(r *T) any { return at(r) },
	}
}

// count is a number whose zero is NULL.
func count[T any, N int32 | int64](name, array string, at func(*T) *N) column[T] {
	c := number(name, array, at)
	c.values = func(rows []*T) (any, error) {
		out := make([]*N, len(rows))
		for i, r := range rows {
			if n := *at(r); n != 0 {
				out[i] = &n
			}
		}
		return out, nil
	}
	c.binary = func(b []byte, r *T) ([]byte, error) {
		if n := *at(r); n != 0 {
			return fieldNumber(b, n), nil
		}
		return fieldNull(b), nil
	}
	c.dest = func(r *T) any { return nullable[N]{at(r)} }
	return c
}

func moment[T any](name string, at func(*T) *time.Time) column[T] {
	return column[T]{
		name: name, array: "timestamptz[]",
		values: func(rows []*T) (any, error) {
			out := make([]*time.Time, len(rows))
			for i, r := range rows {
				if t := *at(r); !t.IsZero() {
					out[i] = &t
				}
			}
			return out, nil
		},
		binary: func(b []byte, r *T) ([]byte, error) {
			if t := *at(r); !t.IsZero() {
				return fieldNumber(b, t.UnixMicro()-epoch), nil
			}
			return fieldNull(b), nil
		},
		dest: func(r *T) any { return utc{at(r)} },
	}
}

// document is a jsonb column. A V that encodes to null is NULL.
func document[T, V any](name string, at func(*T) *V) column[T] {
	c := jsonb(name, func(r *T) ([]byte, error) {
		b, err := json.Marshal(at(r))
		if err != nil {
			return nil, fmt.Errorf("cannot encode column %s: %w", name, err)
		}
		if b = cleanJSON(b); string(b) == "null" {
			return nil, nil
		}
		return b, nil
	})
	c.dest = func(r *T) any { return at(r) }
	return c
}

// jsonb is a column that holds what encode gives; nil is NULL.
func jsonb[T any](name string, encode func(*T) ([]byte, error)) column[T] {
	return column[T]{
		name: name, array: "text[]", cast: "::jsonb",
		values: func(rows []*T) (any, error) {
			out := make([]*string, len(rows))
			for i, r := range rows {
				b, err := encode(r)
				if err != nil {
					return nil, err
				}
				if b != nil {
					s := string(b)
					out[i] = &s
				}
			}
			return out, nil
		},
		binary: func(b []byte, r *T) ([]byte, error) {
			doc, err := encode(r)
			if err != nil || doc == nil {
				return fieldNull(b), err
			}
			return append(append(fieldSize(b, 1+len(doc)), jsonbVersion), doc...), nil
		},
	}
}

// raw is a document that is JSON already.
func raw[T any](name string, at func(*T) *json.RawMessage) column[T] {
	c := jsonb(name, func(r *T) ([]byte, error) { return cleanJSON(*at(r)), nil })
	c.dest = func(r *T) any { return at(r) }
	return c
}

// setOnce is a document that one event sets for good.
func setOnce[T, V any](name string, at func(*T) *V) column[T] {
	c := document(name, at)
	c.once = true
	return c
}

// nullable reads NULL as zero.
type nullable[N int32 | int64] struct{ to *N }

// ScanInt64 implements pgtype.Int64Scanner.
func (n nullable[N]) ScanInt64(v pgtype.Int8) error {
	*n.to = N(v.Int64)
	return nil
}

// utc reads a time in UTC, and NULL as the zero time.
type utc struct{ to *time.Time }

// ScanTimestamptz implements pgtype.TimestamptzScanner.
func (u utc) ScanTimestamptz(v pgtype.Timestamptz) error {
	*u.to = time.Time{}
	if v.Valid {
		*u.to = v.Time.UTC()
	}
	return nil
}

// clean replaces the one character that PostgreSQL cannot hold in text.
func clean(s string) string {
	if strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// cleanJSON does the same to the escaped form, which jsonb refuses as well.
func cleanJSON(b []byte) []byte {
	if !bytes.Contains(b, []byte(`\u0000`)) {
		return b
	}
	for i := 0; i+1 < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		if bytes.HasPrefix(b[i:], []byte(`\u0000`)) {
			copy(b[i:], `\ufffd`)
		}
		i++ // what follows the backslash starts no escape of its own
	}
	return b
}

// micro is the resolution of PostgreSQL's timestamps.
func micro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// put queues the statement that writes rows, no two of which have the same key.
func (t table[T]) put(b *pgx.Batch, schema string, rows []*T) error {
	if len(rows) == 0 {
		return nil
	}
	args := make([]any, len(t.columns))
	for i, c := range t.columns {
		var err error
		if args[i], err = c.values(rows); err != nil {
			return err
		}
	}
	b.Queue(t.insert(schema), args...)
	return nil
}

func (t table[T]) insert(schema string) string {
	names, params, taken, set := make([]string, len(t.columns)), make([]string, len(t.columns)), make([]string, len(t.columns)), []string(nil)
	for i, c := range t.columns {
		names[i] = c.name
		params[i] = "$" + strconv.Itoa(i+1) + "::" + c.array
		taken[i] = "r." + c.name + c.cast
		switch {
		case i < t.key:
		case c.once:
			set = append(set, c.name+" = coalesce(excluded."+c.name+", t."+c.name+")")
		default:
			set = append(set, c.name+" = excluded."+c.name)
		}
	}
	list := strings.Join(names, ", ")
	sql := "INSERT INTO " + schema + "." + t.name + " AS t (" + list + ") SELECT " + strings.Join(taken, ", ") +
		" FROM unnest(" + strings.Join(params, ", ") + ") AS r (" + list + ")"
	if t.fixed {
		return sql
	}
	return sql + " ON CONFLICT (" + strings.Join(names[:t.key], ", ") + ") DO UPDATE SET " + strings.Join(set, ", ")
}

// without is the table with fewer columns to read.
func (t table[T]) without(drop func(column[T]) bool) table[T] {
	t.columns = slices.DeleteFunc(slices.Clone(t.columns), drop)
	return t
}

// small leaves out the documents that one event sets for good.
func (t table[T]) small() table[T] {
	return t.without(func(c column[T]) bool { return c.once })
}

// query is SELECT of the table's columns, followed by the rest of a statement.
func (t table[T]) query(schema, rest string) string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return "SELECT " + strings.Join(names, ", ") + " FROM " + schema + "." + t.name + " " + rest
}

// collect reads what query gave.
func (t table[T]) collect(rows pgx.Rows, err error) ([]*T, error) {
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", t.name, err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*T, error) {
		r, dest := new(T), make([]any, len(t.columns))
		for i, c := range t.columns {
			dest[i] = c.dest(r)
		}
		return r, row.Scan(dest...)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", t.name, err)
	}
	return out, nil
}
