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
	// commonSize is how many bytes of its hash represent a word. With n words, n in 2^40 of all
	// other passwords are false positives: one in sixty million for the list that is shipped.
	commonSize = 5
	// commonTail is the maximum length of what people append to a common password when it is too
	// short: a year, a number, a few signs. A password with a longer tail is left to score, for the
	// tail may be strong.
	commonTail = 8
)

// commonList is the list in the format of EncodeCommon. common/README.md documents its source.
//
//go:embed common/passwords.bin
var commonList string

// EncodeCommon encodes the list of common passwords: for each word, folded, the first bytes of its
// SHA-256, sorted. It omits words that every rule refuses anyway, because they are shorter than
// MinLengthWithSecondFactor. It is for the program in common, which writes the list.
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

// isCommon reports whether a password, without regard to case, is on the list, also when up to
// commonTail digits and signs were appended.
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

// foldCase removes the differences between spellings of a word: compatibility forms and case.
func foldCase(text string) string {
	return norm.NFKC.String(cases.Fold().String(norm.NFKC.String(text)))
}
