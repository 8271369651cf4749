// Tests of the sentences about parameters.

package aggregates

import "testing"

func TestAllowedValuesAreWrittenPlainly(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]Param{
		"a whole number from 0 to 2147483647": {Kind: "integer", Max: 2147483647},
		"a number from 0.00001 to 1000000":    {Kind: "number", Min: 0.00001, Max: 1e6},
		"a whole number from -3000000 to 0":   {Kind: "integer", Min: -3e6},
		"one of 2, 4":                         {Kind: "integer", Enum: []string{"2", "4"}},
		"true or false":                       {Kind: "boolean"},
	} {
		if got := p.Allowed(); got != want {
			t.Errorf("Allowed() = %q, want %q", got, want)
		}
	}
}
