// The rules of the safety filter: what a script may not say, in English.

package gpu

import (
	"fmt"
	"regexp"
	"unicode/utf8"

	"github.com/myspinbot/myspinbot/events"
)

// rule forbids texts that match every pattern. Several patterns make a rule
// narrow: a topic together with an instruction, say.
type rule struct {
	code   string
	detail string
	strict bool // only under the strict policy
	all    []*regexp.Regexp
}

// anyOf matches whole words of a folded text. Go's \b knows Latin letters alone.
func anyOf(pattern string) *regexp.Regexp {
	return regexp.MustCompile(`(?:^| )(?:` + pattern + `)(?: |$)`)
}

var (
	instruct = anyOf(`how to|how you can|ways? to|steps? to|instructions?|recipe|guide|tutorial|you should|go ahead and|here is how|the best way`)
	minors   = anyOf(`child|children|kids?|minors?|under ?age|preteens?|toddlers?|school ?girls?|school ?boys?|(?:[1-9]|1[0-7]) year olds?|lolis?|shota`)
	sexual   = anyOf(`sex|sexual|sexually|sexy|porn|porno|pornographic|nude|nudes|naked|erotic|orgasm|intercourse|genitals?|fetish`)
	groups   = `jews?|muslims?|christians?|black people|white people|asians?|immigrants?|refugees?|gays?|lesbians?|gay people|trans people|women|men|disabled people|roma`
)

var englishRules = []rule{
	{
		code: "sexual_minors", detail: "Sexual content that involves minors is never allowed.",
		all: []*regexp.Regexp{minors, sexual},
	},
	{
		code: "self_harm", detail: "Encouragement of, or instructions for, self-harm are not allowed.",
		all: []*regexp.Regexp{anyOf(`(?:go )?kill yourself|end your (?:own )?life|you should (?:die|not be alive)|kys`)},
	},
	{
		code: "self_harm", detail: "Encouragement of, or instructions for, self-harm are not allowed.",
		all: []*regexp.Regexp{instruct, anyOf(`kill yourself|commit suicide|hang yourself|cut yourself|harm yourself|hurt yourself|overdose|take your (?:own )?life`)},
	},
	{
		code: "hate", detail: "Calls for violence against, or contempt of, groups of people are not allowed.",
		all: []*regexp.Regexp{anyOf(`(?:kill|gas|exterminate|eradicate|get rid of|deport|hang|burn|shoot) (?:all |every |the )+(?:` + groups + `)|(?:death to|i hate|we hate) (?:all |the )*(?:` + groups + `)|(?:` + groups + `) (?:are|is) (?:vermin|subhuman|parasites?|animals|cockroaches|filth|scum)`)},
	},
	{
		code: "hate", detail: "Slurs against groups of people are not allowed.",
		all: []*regexp.Regexp{anyOf(`n[i1]gg(?:er|a)s?|k[i1]kes?|f[a4]gg?[o0]ts?|sp[i1]cs|ch[i1]nks|tr[a4]nn(?:y|ies)|sieg heil|heil hitler|white power`)},
	},
	{
		code: "weapons", detail: "Instructions for building weapons of harm are not allowed.",
		all: []*regexp.Regexp{instruct, anyOf(`(?:build|make|assemble|mix|cook) (?:a |an |your own |some )?(?:pipe bombs?|bombs?|explosives?|nerve gas|sarin|ricin|napalm|molotov(?: cocktails?)?|ghost guns?)`)},
	},
	{
		code: "payment_scam", detail: "Messages that pretend to be someone in order to get money or secrets are not allowed.",
		all: []*regexp.Regexp{
			anyOf(`(?:this is|i am|i m|calling from|on behalf of) (?:your |the )?(?:\w+ ){0,2}(?:bank|tax office|irs|police|microsoft|apple|amazon|paypal|support team|customer service|fraud department|son|daughter|grandson|granddaughter|boss|ceo)`),
			anyOf(`gift cards?|wire (?:the |me )?(?:money|transfer)|send (?:me |us )?(?:the )?(?:money|bitcoins?|crypto)|transfer (?:the )?(?:money|funds)|bitcoins?|your (?:pin|password|passcode|one time code|card number|account number|social security number)`),
		},
	},
	{
		code: "sexual", strict: true, detail: "The strict policy allows no sexual content.",
		all: []*regexp.Regexp{sexual},
	},
	{
		code: "violence", strict: true, detail: "The strict policy allows no graphic violence.",
		all: []*regexp.Regexp{anyOf(`behead(?:ed|ing)?|decapitat\w*|dismember\w*|torture[ds]?|torturing|massacre[ds]?|gore|blood ?bath|slaughter(?:ed|ing)?`)},
	},
	{
		code: "profanity", strict: true, detail: "The strict policy allows no profanity.",
		all: []*regexp.Regexp{anyOf(`fuck\w*|motherfuck\w*|shit\w*|bullshit|cunts?|bitch(?:es)?|assholes?|bastards?|dickheads?`)},
	},
}

// judge holds a text against the rules. It gives each code at most once per field.
func judge(rules []rule, field, text string, limit int, strict bool) []events.Reason {
	var reasons []events.Reason
	if n := utf8.RuneCountInString(text); n > limit {
		reasons = append(reasons, events.Reason{
			Code: field + "_too_long", Field: "/" + field, Detail: fmt.Sprintf("The %s has %d characters, more than %d.", field, n, limit),
		})
	}
	plain := foldText(text)
	seen := map[string]bool{}
	for _, r := range rules {
		if seen[r.code] || (r.strict && !strict) || !r.matches(plain) {
			continue
		}
		seen[r.code] = true
		reasons = append(reasons, events.Reason{Code: r.code, Field: "/" + field, Detail: r.detail})
	}
	return reasons
}

func (r rule) matches(text string) bool {
	for _, p := range r.all {
		if !p.MatchString(text) {
			return false
		}
	}
	return true
}
