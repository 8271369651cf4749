// Rules of one's own for the safety filter, from a file.

package gpu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

// ownRule is a rule as it is written in a file. Phrases are matched as whole words,
// whatever their capitals and accents; one that ends in * goes on with any letters.
type ownRule struct {
	Code   string     `json:"code"`   // small letters, digits and underscores
	Detail string     `json:"detail"` // one sentence for the user
	Strict bool       `json:"strict"` // only under the strict policy
	All    [][]string `json:"all"`    // a text breaks the rule by having a phrase of every list
}

const (
	ownRulesLimit = 1 << 20 // bytes of the file
	longestDetail = 200     // characters
	mostPhrases   = 5000
)

var ruleCode = regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`)

// loadRules reads a file with a list of rules; digest tells files apart. An empty name
// is no file; all faults are named at once.
func loadRules(path string) (rules []rule, digest string, err error) {
	if path == "" {
		return nil, "", nil
	}
	fail := func(err error) ([]rule, string, error) {
		return nil, "", fmt.Errorf("cannot use the safety rules in %s: %w", path, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fail(err)
	}
	if len(text) > ownRulesLimit {
		return fail(fmt.Errorf("the file has more than %d bytes", ownRulesLimit))
	}
	var own []ownRule
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&own); err != nil {
		return fail(fmt.Errorf("it is not a list of rules with code, detail, strict and all: %w", err))
	}
	var faults []error
	for i, o := range own {
		r, err := o.rule()
		if err != nil {
			faults = append(faults, fmt.Errorf("rule %d (%q): %w", i+1, o.Code, err))
		}
		rules = append(rules, r)
	}
	if err := errors.Join(faults...); err != nil {
		return fail(err)
	}
	return rules, settingsVersion("1", own), nil
}

func (o ownRule) rule() (rule, error) {
	switch {
	case !ruleCode.MatchString(o.Code) || o.Code == noneOfThem:
		return rule{}, errors.New("give it a code of small letters, digits and underscores")
	case o.Detail == "" || utf8.RuneCountInString(o.Detail) > longestDetail:
		return rule{}, fmt.Errorf("give it a detail of at most %d characters", longestDetail)
	case len(o.All) == 0:
		return rule{}, errors.New(`give it phrases: "all" holds lists of them`)
	}
	r := rule{code: o.Code, detail: o.Detail, strict: o.Strict}
	n := 0
	for _, phrases := range o.All {
		var patterns []string
		for _, p := range phrases {
			folded := foldText(p)
			if folded == "" {
				return rule{}, errors.New("a phrase has neither letters nor digits")
			}
			folded = regexp.QuoteMeta(folded)
			if strings.HasSuffix(p, "*") {
				folded += letters
			}
			patterns = append(patterns, folded)
		}
		if n += len(patterns); len(patterns) == 0 || n > mostPhrases {
			return rule{}, fmt.Errorf("a list of phrases is empty, or there are more than %d", mostPhrases)
		}
		r.all = append(r.all, anyOf(strings.Join(patterns, "|")))
	}
	return r, nil
}
