// The chain check that every fold runs before it applies a fact.

package events

import (
	"errors"
	"fmt"
)

// ErrBrokenChain says that a fact does not continue its aggregate's chain. Such
// a record is counted and never applied.
var ErrBrokenChain = errors.New("fact does not continue the chain")

// Chain is the position of a fold in one aggregate's stream; the zero value stands before version 1.
type Chain struct {
	Version int64  // of the last applied fact
	LastID  string // its event_id
}

// Check says whether m continues the chain: the next version, naming the last
// applied fact as its predecessor.
func (c Chain) Check(m Message) error {
	if m.Version != c.Version+1 || m.PrevID != c.LastID {
		return fmt.Errorf("%w: %s %s has version %d after %q, the fold stands at version %d after %q",
			ErrBrokenChain, m.AggregateType, m.AggregateID, m.Version, m.PrevID, c.Version, c.LastID)
	}
	return nil
}

// Seen says whether m was applied already (a duplicate, not a break), as far as its version tells.
func (c Chain) Seen(m Message) bool { return m.Version >= 1 && m.Version <= c.Version }

// Next is the chain after m.
func (c Chain) Next(m Message) Chain { return Chain{Version: m.Version, LastID: m.ID} }
