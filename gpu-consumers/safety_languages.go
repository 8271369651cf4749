// The rules of the safety filter in other languages: a sample that catches the plain
// cases, as the English ones do. Words are written as foldText leaves them.

package gpu

import "regexp"

// languageRules are one language's words. A script breaks a rule by having words of both
// its groups; where the second is empty, one of the first is enough.
type languageRules struct {
	minors, sexual    string
	selfHarm          string
	hate, groups      string // calls to kill, and whom
	instruct, weapons string
}

const letters = `\pL*`

// languages by their codes in ISO 639-1.
var languages = map[string]languageRules{
	"de": {
		minors: `kinder|kindern|kindes|minderjahrig` + letters + `|schulmadchen|kleine` + letters + ` (?:madchen|jungen?)`,
		sexual: `sex|sexuell` + letters + `|nackt` + letters + `|porno` + letters + `|erotisch` + letters, selfHarm: `bring dich um|tote dich(?: selbst)?|du solltest sterben|geh sterben`,
		hate:   `(?:totet|vergast|erschiesst|verbrennt|vernichtet) (?:alle |die )+|tod (?:allen |den )+`,
		groups: `juden|muslime?n?|auslandern?|fluchtlingen?|schwulen?|turken|frauen`, instruct: `anleitung|wie man|so baust du|schritt fur schritt`,
		weapons: `bomben?|rohrbomben?|sprengstoff|giftgas|sarin|rizin`,
	},
	"fr": {
		minors: `enfants?|mineure?s?|fillettes?|petite?s? (?:filles?|garcons?)`, sexual: `sexe|sexuel` + letters + `|nue?s?|porno` + letters + `|erotique` + letters,
		selfHarm: `tue toi|suicide toi|tu devrais mourir|va mourir`, hate: `(?:tuez|gazez|exterminez|brulez) (?:tous |toutes |les )+|mort aux `,
		groups: `juifs|musulmans|immigres|refugies|noirs|arabes|homos(?:exuels)?|femmes`, instruct: `comment|mode d emploi|voici les etapes|guide`,
		weapons: `(?:fabriquer|construire) (?:une? )?(?:bombe|explosif|cocktail molotov)s?`,
	},
	"es": {
		minors: `ninos?|ninas?|menores?(?: de edad)?|colegialas?`, sexual: `sexo|sexual` + letters + `|desnud` + letters + `|porno` + letters + `|erotic` + letters,
		selfHarm: `matate|suicidate|deberias morir`, hate: `(?:maten|matad|quemen|exterminen) (?:a )?(?:todos |todas |los |las )+|muerte a (?:todos )?(?:los |las )`,
		groups: `judios|musulmanes|inmigrantes|refugiados|negros|gays|mujeres`, instruct: `como|guia|instrucciones|paso a paso`,
		weapons: `(?:fabricar|construir|hacer) (?:una? )?(?:bombas?|explosivos?|coctel molotov)`,
	},
	"it": {
		minors: `bambin[oiae]|minorenn[ei]|ragazzin[oiae]`, sexual: `sesso|sessual` + letters + `|nud[oiae]|porno` + letters + `|erotic` + letters,
		selfHarm: `ucciditi|ammazzati|dovresti morire`, hate: `(?:uccidete|bruciate|sterminate) (?:tutti |tutte |gli |i |le )+|morte (?:agli |ai |alle )`,
		groups: `ebrei|musulmani|immigrati|rifugiati|neri|omosessuali|donne`, instruct: `come|guida|istruzioni|passo per passo`,
		weapons: `(?:costruire|fabbricare|fare) (?:una? )?(?:bomba|bombe|esplosivi?|molotov)`,
	},
	"pt": {
		minors: `criancas?|menin[oa]s?|menores de idade`, sexual: `sexo|sexual|sexuais|nu(?:as?|s)?|porno` + letters + `|erotic` + letters,
		selfHarm: `se mate|mate se|voce deveria morrer`, hate: `(?:matem|queimem|exterminem) (?:todos |todas |os |as )+|morte aos `,
		groups: `judeus|muculmanos|imigrantes|refugiados|negros|gays|mulheres`, instruct: `como|guia|instrucoes|passo a passo`,
		weapons: `(?:fabricar|construir|fazer) (?:uma? )?(?:bombas?|explosivos?|coquetel molotov)`,
	},
	"ru": {
		minors: `дет(?:и|еи|ям|ьми)|реб[её]н` + letters + `|несовершеннолетн` + letters + `|школьниц` + letters, sexual: `секс` + letters + `|гол(?:ые|ыи|ая|ых)|порно` + letters + `|эротич` + letters,
		selfHarm: `убеи себя|покончи с собои|ты должен умереть`, hate: `(?:убеите|жгите|уничтожьте) (?:всех )?|смерть (?:всем )?`,
		groups: `евреев|евреям|мусульман(?:ам)?|мигрантов|мигрантам|беженцев|геев`, instruct: `как|инструкция|пошагово`,
		weapons: `(?:сделать|собрать|изготовить) (?:бомбу|взрывчатку)`,
	},
	"zh": {
		minors: `儿 童|未 成 年|小 女 孩|小 男 孩|幼 女`, sexual: `性 交|裸 体|色 情|淫 秽|做 爱`, selfHarm: `去 死 吧|自 杀 吧|杀 了 你 自 己`,
		hate: `杀 光 |消 灭 |灭 绝 `, groups: `(?:所 有 (?:的 )?)?(?:犹 太 人|穆 斯 林|移 民|黑 人|同 性 恋)`, instruct: `如 何|怎 么|怎 样|教 程|步 骤`, weapons: `(?:制 作|制 造|做) (?:一 个 )?(?:炸 弹|炸 药|毒 气)`,
	},
}

// rules are the language's rules, under the codes and sentences of the English ones.
func (l languageRules) rules() []rule {
	breaking := func(code string, patterns ...string) rule {
		r := rule{code: code, detail: detailOf(code)}
		for _, p := range patterns {
			r.all = append(r.all, anyOf(p))
		}
		return r
	}
	return []rule{
		breaking("sexual_minors", l.minors, l.sexual), breaking("self_harm", l.selfHarm),
		{code: "hate", detail: detailOf("hate"), all: []*regexp.Regexp{regexp.MustCompile(`(?:^| )(?:` + l.hate + `)(?:` + l.groups + `)(?: |$)`)}},
		breaking("weapons", l.instruct, l.weapons),
	}
}

// detailOf is the sentence that goes with a code.
func detailOf(code string) string {
	for _, r := range englishRules {
		if r.code == code {
			return r.detail
		}
	}
	return ""
}
