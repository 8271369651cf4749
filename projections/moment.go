// Moments: how people name a point of the history.

package projections

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Moment is a point of the history; one of its three forms is set.
type Moment struct {
	Time   time.Time // what was decided up to then, to the microsecond that rows have
	Number int64     // of one job: its version; of all tables: the offset that every partition is read up to, with it
	Place  *Place    // what was true right after this record
}

// Place is a record of jobs.events, written "partition:offset", as events name their position.
type Place struct {
	Partition int32
	Offset    int64
}

func (p Place) String() string { return fmt.Sprintf("%d:%d", p.Partition, p.Offset) }

// ErrBadMoment says that a text names no moment.
var ErrBadMoment = errors.New("not a moment: give a time such as 2026-03-01T12:00:00Z (RFC 3339), a whole number, or an event's position such as 3:1042")

// ParseMoment reads a time, a number or a place. It returns ErrBadMoment otherwise.
func ParseMoment(s string) (Moment, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil && t.Year() > 0 {
		return Moment{Time: t}, nil
	}
	if partition, offset, two := strings.Cut(s, ":"); two {
		p, wrong := strconv.ParseInt(partition, 10, 32)
		o, err := strconv.ParseInt(offset, 10, 64)
		if wrong == nil && err == nil && p >= 0 && o >= 0 && o < math.MaxInt64 {
			return Moment{Place: &Place{int32(p), o}}, nil
		}
		return Moment{}, fmt.Errorf("%q is %w", s, ErrBadMoment)
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 && n < math.MaxInt64 {
		return Moment{Number: n}, nil
	}
	return Moment{}, fmt.Errorf("%q is %w", s, ErrBadMoment)
}

// String is the form that ParseMoment reads.
func (m Moment) String() string {
	switch {
	case m.Place != nil:
		return m.Place.String()
	case !m.Time.IsZero():
		return m.Time.UTC().Format(time.RFC3339Nano)
	}
	return strconv.FormatInt(m.Number, 10)
}

// after says whether what was decided at t belongs to a later time than the moment's.
func (m Moment) after(t time.Time) bool { return !m.Time.IsZero() && micro(t).After(m.Time) }
