package password

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"slices"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

const (
	// commonSize is how many bytes of its hash stand for a word. With n words, n in 2^40 of all
	// other passwords are taken for one of them: one in sixty million for the list that is shipped.
	commonSize = 5
	// commonTail is how many characters at the end may be what people add to a common password when
	// they are asked for a longer one: a year, a number, a few signs. A longer tail is judged by
	// score instead, for it may be worth something.
	commonTail = 8
)

// commonList is the list in the form of EncodeCommon. common/README.md says where it comes from.
//
//go:embed common/passwords.bin
var commonList string

// EncodeCommon makes the list of common passwords from words: of each, folded, the first bytes of
// its SHA-256, sorted. Words that no rule lets through anyway, because they are shorter than
// MinLengthWithSecondFactor, are left out. It is for the program in common, which writes the list.
func EncodeCommon(words []string) []byte {
	hashes := make([][]byte, 0, len(words))
	for _, word := range words {
		if word = foldCase(word); utf8.RuneCountInString(word) >= MinLengthWithSecondFactor {
			hashes = append(hashes, []byte(commonHash(word)))
		}
	}
	slices.SortFunc(hashes, bytes.Compare)
	return bytes.Join(slices.CompactFunc(hashes, bytes.Equal), nil)
}

// isCommon tells whether a password is on the list, with upper and lower case taken as the same,
// also when up to commonTail digits and signs were added at its end.
func isCommon(list, password string) bool {
	password = foldCase(password)
	for added := 0; added <= commonTail && utf8.RuneCountInString(password) >= MinLengthWithSecondFactor; added++ {
		if listed(list, password) {
			return true
		}
		last, size := utf8.DecodeLastRuneInString(password)
		if unicode.IsLetter(last) || unicode.IsMark(last) {
			return false
		}
		password = password[:len(password)-size]
	}
	return false
}

func listed(list, folded string) bool {
	at := func(i int) string { return list[i*commonSize : (i+1)*commonSize] }
	hash := commonHash(folded)
	_, found := sort.Find(len(list)/commonSize, func(i int) int { return strings.Compare(hash, at(i)) })
	return found
}

func commonHash(folded string) string {
	sum := sha256.Sum256([]byte(folded))
	return string(sum[:commonSize])
}

// foldCase takes away what is different between spellings of one word: compatibility forms and
// case.
func foldCase(text string) string {
	return norm.NFKC.String(cases.Fold().String(norm.NFKC.String(text)))
}
