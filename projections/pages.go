// Pages of a list: by a key and never by a number of rows, so that page 1,000 costs what page 1 does.

package projections

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Page is one page of a list, newest first.
type Page[T any] struct {
	Rows []*T
	Next *Cursor // where the next page starts; nil after the last one
}

// where collects conditions and their arguments.
type where struct {
	sql  string
	args []any
}

func (w *where) and(condition string, arg any) {
	w.args = append(w.args, arg)
	w.sql += " AND " + condition + "($" + strconv.Itoa(len(w.args)) + ")"
}

func (w *where) andText(condition, arg string) {
	if arg != "" {
		w.and(condition, arg)
	}
}

// page gives the rest of a statement that reads one row more than the page has, to know whether another follows.
func (w *where) page(after *Cursor, limit int) string {
	if after != nil {
		w.args = append(w.args, after.CreatedAt, after.ID)
		w.sql += fmt.Sprintf(" AND (created_at, id) < ($%d, $%d)", len(w.args)-1, len(w.args))
	}
	w.args = append(w.args, limit+1)
	return fmt.Sprintf("WHERE %s ORDER BY created_at DESC, id DESC LIMIT $%d", w.sql, len(w.args))
}

func page[T any](rows []*T, err error, limit int, at func(*T) Cursor) (Page[T], error) {
	if err != nil || len(rows) <= limit {
		return Page[T]{Rows: rows}, err
	}
	next := at(rows[limit-1])
	return Page[T]{Rows: rows[:limit], Next: &next}, nil
}

// Cursor is a place in a list: behind the row with this time and id.
type Cursor struct {
	CreatedAt time.Time `json:"t"`
	ID        string    `json:"i"`
}

// ErrBadCursor says that a text is no cursor that String made.
var ErrBadCursor = errors.New("the cursor is not one that this list gave out: start again without it")

// String is the cursor as clients carry it, opaque and safe in a URL.
func (c Cursor) String() string {
	b, err := json.Marshal(c)
	if err != nil { // a year beyond 9999, which no row has
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseCursor reads what String gave; the empty text is nil, the first page. It returns ErrBadCursor otherwise.
func ParseCursor(s string) (*Cursor, error) {
	if s == "" {
		return nil, nil
	}
	var c Cursor
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || json.Unmarshal(b, &c) != nil || c.ID == "" || strings.IndexByte(c.ID, 0) >= 0 {
		return nil, ErrBadCursor
	}
	return &c, nil
}
