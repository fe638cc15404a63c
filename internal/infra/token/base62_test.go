package token

import (
	"bytes"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// One digit after the other, as base62 is defined.
func TestBase62(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.SliceOfN(rapid.Byte(), 0, bearerSize).Draw(t, "number")
		text := toBase62(number, bearerWidth)
		sum := new(big.Int)
		for _, digit := range []byte(text) {
			sum.Mul(sum, big.NewInt(62)).Add(sum, big.NewInt(int64(bytes.IndexByte([]byte(base62Alphabet), digit))))
		}
		if len(text) != bearerWidth || sum.Cmp(new(big.Int).SetBytes(number)) != 0 {
			t.Fatalf("%x gave %s", number, text)
		}
		read, ok := fromBase62(text, len(number))
		if !ok || !bytes.Equal(read, number) {
			t.Fatalf("%s gave %x, %v", text, read, ok)
		}
		if _, ok := fromBase62(text, len(bytes.TrimLeft(number, "\x00"))-1); ok && len(number) > 0 {
			t.Fatal("a number that is too great was read")
		}
	})
}

func TestBase62Limits(t *testing.T) {
	for _, size := range []int{4, secretSize, bearerSize} {
		width := map[int]int{4: checksumWidth, secretSize: secretWidth, bearerSize: bearerWidth}[size]
		greatest := bytes.Repeat([]byte{0xff}, size)
		text := toBase62(greatest, width)
		if read, ok := fromBase62(text, size); !ok || !bytes.Equal(read, greatest) {
			t.Errorf("the greatest number of %d bytes gave %x, %v", size, read, ok)
		}
		above := toBase62(append([]byte{1}, make([]byte, size)...), width)
		if _, ok := fromBase62(above, size); ok {
			t.Errorf("a number of more than %d bytes was read", size)
		}
	}
	for _, digits := range []string{"-", "0000000000-", "-0000000000", "é", " 0", "0\x00"} {
		if _, ok := fromBase62(digits, secretSize); ok {
			t.Errorf("%q was read", digits)
		}
	}
	if read, ok := fromBase62("", 1); !ok || !bytes.Equal(read, []byte{0}) {
		t.Error("no digits are nought")
	}
}
