// Scopes: what a credential may ask for.

package access

import (
	"fmt"
	"strings"
)

// Scopes is a set of them.
type Scopes uint8

// The scopes. Writing does not include reading.
const (
	Read    Scopes = 1 << iota // look at one's own things
	Write                      // change them, and make new ones
	Operate                    // lanes, workers, metrics: what is of the whole machine
)

// All is every scope.
const All = Read | Write | Operate

var scopeNames = []struct {
	scope Scopes
	name  string
}{{Read, "read"}, {Write, "write"}, {Operate, "operate"}}

// ScopeNames lists the names of all scopes.
func ScopeNames() []string { return All.Names() }

// scopeOf is the scope of a name; 0: there is none.
func scopeOf(name string) Scopes {
	for _, s := range scopeNames {
		if s.name == name {
			return s.scope
		}
	}
	return 0
}

// ParseScopes reads a list of names, and refuses those that there are not.
func ParseScopes(names []string) (all Scopes, err error) {
	for _, name := range names {
		s := scopeOf(name)
		if s == 0 {
			return 0, fmt.Errorf("there is no scope %q; scopes are %s", name, strings.Join(ScopeNames(), ", "))
		}
		all |= s
	}
	return all, nil
}

// Has says whether everything needed is in the set.
func (s Scopes) Has(need Scopes) bool { return s&need == need }

// Names lists the set.
func (s Scopes) Names() []string {
	names := []string{}
	for _, one := range scopeNames {
		if s.Has(one.scope) {
			names = append(names, one.name)
		}
	}
	return names
}

func (s Scopes) String() string { return strings.Join(s.Names(), ",") }
