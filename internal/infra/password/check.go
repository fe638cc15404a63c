package password

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nbutton23/zxcvbn-go/matching"
	"github.com/nbutton23/zxcvbn-go/scoring"
	"golang.org/x/text/unicode/norm"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

// Person is what an attacker may know about the owner of a password. Every field may be empty.
type Person struct {
	FirstName    string
	LastName     string
	Email        string
	CustomerSlug string
	CustomerName string
}

const (
	// minScore is the minimum score of zxcvbn, of 0 to 4: 3 is "safely unguessable, moderate
	// protection from offline slow-hash scenario".
	minScore = 3
	// judged is how many characters are scored. The time of the estimate grows with the square of
	// the length, and a password whose first 72 characters are strong is strong.
	judged = 72
	// minKnown is the minimum length of a known word: otherwise an Al could not use any word with
	// "al" in it.
	minKnown = 3
)

// Rules are those that differ between accounts.
type Rules struct {
	// MinLength is the minimum length in characters: MinLengthWithSecondFactor for an account that
	// has a second factor. Zero means the constant MinLength; a lower value than
	// MinLengthWithSecondFactor means MinLengthWithSecondFactor.
	MinLength int
}

// Check is CheckWith with the rules for an account whose password is its only factor.
func Check(password sensitive.String, about Person, pointer string) error {
	return CheckWith(password, about, pointer, Rules{})
}

// CheckWith checks a new password: it must be long enough, have at most MaxLength characters, not
// be common, and be hard to guess, also for an attacker who knows the person. There are no rules
// about kinds of characters (NIST SP 800-63B-4, section 3.1.1.2). The error is the fault
// WeakPassword with a member at the pointer, and holds nothing of the password.
func CheckWith(password sensitive.String, about Person, pointer string, rules Rules) error {
	weak := func(detail string) error { return fault.New(fault.WeakPassword, detail).At(pointer, detail) }
	least := MinLength
	if rules.MinLength != 0 {
		least = max(rules.MinLength, MinLengthWithSecondFactor)
	}

	text := password.Reveal()
	if !utf8.ValidString(text) {
		return weak("The password must be text in UTF-8.")
	}
	normal, ok := normalise(password)
	switch {
	case text != "" && !ok:
		return weak(fmt.Sprintf("The password is too long: use at most %d characters.", MaxLength))
	case utf8.RuneCount(normal) < least:
		return weak(fmt.Sprintf("The password is too short: use at least %d characters. "+
			"A few words that have nothing to do with each other are good.", least))
	case isCommon(commonList, string(normal)):
		return weak("The password is one that many people use, perhaps with digits or signs added at its end, " +
			"and is among the first that are tried. " +
			"Use another: a few words that have nothing to do with each other, and with you, are good.")
	case score(fold(string(normal)), known(about)) < minScore:
		return weak("The password is easy to guess. " +
			"Use no names, addresses, common words in a row, runs or repetitions; " +
			"a few words that have nothing to do with each other, and with you, are good.")
	}
	return nil
}

// score estimates how hard a folded password is to guess, 0 to 4, with the algorithm of zxcvbn
// (Wheeler, USENIX Security 2016).
//
// The library is called piece by piece. Its own search for letters written as digits ("p4$$w0rd")
// tries every combination of readings, so that a crafted password takes seconds, and ignores the
// known words; readings does the same with two readings. A repeated block, which the library scores
// as new each time, is scored once.
func score(password string, known []string) int {
	password = block(password[:min(len(password), judged)])
	matches := matching.Omnimatch(password, known, matching.FilterL33tMatcher)
	for _, reading := range readings(password) {
		matches = append(matches, matching.Omnimatch(reading, known,
			matching.FilterL33tMatcher, matching.FilterSpatialMatcher, matching.FilterRepeatMatcher,
			matching.FilterSequenceMatcher, matching.FilterDateSepMatcher, matching.FilterDateWithoutSepMatcher)...)
	}
	return scoring.MinimumEntropyMatchSequence(password, matches).Score
}

// readings returns the password with digits and signs replaced by the letters that they often stand
// for; none if it has no such characters.
func readings(password string) []string {
	const common = "@a4a8b(c{c[c<c3e6g9g!i0o$s5s+t7t%x2z"
	var found []string
	for _, table := range []string{common + "1i|i", common + "1l|l"} {
		reading := strings.Map(func(r rune) rune {
			for i := 0; i < len(table); i += 2 {
				if rune(table[i]) == r {
					return rune(table[i+1])
				}
			}
			return r
		}, password)
		if reading != password && !slices.Contains(found, reading) {
			found = append(found, reading)
		}
	}
	return found
}

// block returns the shortest block of which the text is a repetition, the last one perhaps cut off;
// the text itself if it is no repetition.
func block(text string) string {
	for size := 1; size <= len(text)/2; size++ {
		if text[size:] == text[:len(text)-size] {
			return text[:size]
		}
	}
	return text
}

// known returns the words that an attacker tries first for the person, folded.
func known(about Person) []string {
	local, domain, _ := strings.Cut(about.Email, "@")
	whole := []string{
		"fusions", "steward",
		about.FirstName, about.LastName, about.FirstName + about.LastName, about.LastName + about.FirstName,
		about.Email, local, domain,
		about.CustomerSlug, about.CustomerName,
	}
	var words []string
	add := func(word string) {
		word = strings.ToLower(fold(word))
		word = word[:min(len(word), judged)]
		if len(word) >= minKnown && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	for _, text := range whole {
		text = cut(text)
		add(text)
		for _, piece := range strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsMark(r) }) {
			add(piece)
		}
	}
	return words
}

// cut bounds the cost of a very long name.
func cut(text string) string {
	const limit = 256 // bytes
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "")
}

// fold turns a text into ASCII of one byte per letter, because the library confuses bytes with
// characters outside ASCII. Accents are dropped; the letters of other alphabets are spread over a
// to z, which keeps runs, repetitions and the person's own name recognisable.
func fold(text string) string {
	var folded strings.Builder
	for _, r := range norm.NFKD.String(text) {
		switch {
		case r <= unicode.MaxASCII:
			folded.WriteByte(byte(r))
		case !unicode.Is(unicode.Mn, r):
			folded.WriteByte(byte('a' + unicode.ToLower(r)%26))
		}
	}
	return folded.String()
}
