// Languages as jobs and engines name them: ISO 639-1, with a region where it matters
// (BCP 47).

package events

import (
	"encoding/json"
	"regexp"
	"strings"
)

// LanguagePattern is the form of a language's code, in any case of its letters.
const LanguagePattern = `^[A-Za-z]{2,3}(-([A-Za-z]{2}|[0-9]{3}))?$`

var languageForm = regexp.MustCompile(LanguagePattern)

// isoLanguages are the codes of ISO 639-1, and Cantonese, which has none there.
const isoLanguages = " aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es et eu" +
	" fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky" +
	" la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw" +
	" sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo yue za zh zu "

// Language is a language's code as it is written everywhere: the language in small
// letters, the region in capitals, a dash between them. ok is false for what is no code
// of ISO 639-1.
func Language(code string) (canonical string, ok bool) {
	if !languageForm.MatchString(code) {
		return "", false
	}
	of, region, _ := strings.Cut(code, "-")
	if of = strings.ToLower(of); !strings.Contains(isoLanguages, " "+of+" ") {
		return "", false
	}
	if region == "" {
		return of, true
	}
	return of + "-" + strings.ToUpper(region), true
}

// Languages are codes of ISO 639-1, each with or without a region (pt, pt-BR), parted by
// single spaces. On the wire they are a list.
type Languages string

// List is each language by itself; nil when there is none.
func (l Languages) List() []string {
	if l == "" {
		return nil
	}
	return strings.Split(string(l), " ")
}

// MarshalJSON implements json.Marshaler.
func (l Languages) MarshalJSON() ([]byte, error) { return json.Marshal(l.List()) }

// UnmarshalJSON implements json.Unmarshaler.
func (l *Languages) UnmarshalJSON(data []byte) error {
	var codes []string
	err := json.Unmarshal(data, &codes)
	*l = Languages(strings.Join(codes, " "))
	return err
}

// Has says whether a language is among them. One without a region is had in any, and one
// with a region where the language is named alone or with that region.
func (l Languages) Has(language string) bool {
	code, region, _ := strings.Cut(language, "-")
	for _, of := range l.List() {
		have, in, _ := strings.Cut(of, "-")
		if have == code && (region == "" || in == "" || in == region) {
			return true
		}
	}
	return false
}
