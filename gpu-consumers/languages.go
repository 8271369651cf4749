// The languages of engines, as configurations name them.

package gpu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/myspinbot/myspinbot/events"
)

// languagesOf reads a list of languages, the same in any order and however often each is
// named.
func languagesOf(codes []string) (events.Languages, error) {
	var all []string
	for _, code := range codes {
		of, ok := events.Language(code)
		if !ok {
			return "", fmt.Errorf("cannot use the language %q: give a code of ISO 639-1, with or without a region, such as de or pt-BR", code)
		}
		all = append(all, of)
	}
	slices.Sort(all)
	return events.Languages(strings.Join(slices.Compact(all), " ")), nil
}

// baseLanguage is a language without its region.
func baseLanguage(language string) string {
	of, _, _ := strings.Cut(language, "-")
	return of
}
