// Engines whose language model lies in the card's memory.

package gpu

import "context"

// onCard is a language model that takes memory of the card and can be told to leave it.
type onCard interface {
	weighs() int
	unit() string
	unload(ctx context.Context) error
	holds(ctx context.Context) (mib int, loaded bool, err error)
}

type scriptOnCard struct {
	*modelScript
	onCard
}

type safetyOnCard struct {
	*safetyFilter
	onCard
}

// counted makes an engine with a language model one that the card's memory is counted
// for, if the model says how much that is.
func counted(e engine) engine {
	switch e := e.(type) {
	case *modelScript:
		if m, ok := e.model.(onCard); ok {
			return scriptOnCard{e, m}
		}
	case *safetyFilter:
		if m, ok := e.model.(onCard); ok {
			return safetyOnCard{e, m}
		}
	}
	return e
}
