package password

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

// quick is a hasher that is far too weak to be made outside this package, so that tests hash fast.
func quick(t testing.TB, options Options) *Hasher {
	t.Helper()
	hasher, err := newHasher(Parameters{MemoryKiB: 64, Iterations: 1, Parallelism: 1}, options)
	if err != nil {
		t.Fatal(err)
	}
	return hasher
}

func mustHash(t testing.TB, hasher *Hasher, password string) string {
	t.Helper()
	encoded, err := hasher.Hash(t.Context(), sensitive.New(password))
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestDefaultParametersEndToEnd(t *testing.T) {
	hasher, err := NewHasher(DefaultParameters(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	encoded := mustHash(t, hasher, "correct horse battery staple")
	if !strings.HasPrefix(encoded, "$argon2id$v=19$m=47104,t=1,p=1$") {
		t.Fatalf("got %s", encoded)
	}
	ok, rehash, err := hasher.Verify(t.Context(), encoded, sensitive.New("correct horse battery staple"))
	if !ok || rehash || err != nil {
		t.Fatalf("got %v, %v, %v", ok, rehash, err)
	}
	ok, rehash, err = hasher.Verify(t.Context(), encoded, sensitive.New("correct horse battery stapl"))
	if ok || rehash || err != nil {
		t.Fatalf("got %v, %v, %v", ok, rehash, err)
	}
}

func TestOneCharacterMoreIsAnotherPassword(t *testing.T) {
	hasher := quick(t, Options{})
	long := strings.Repeat("x", 72)
	tests := []struct{ name, set, tried string }{
		{"behind a NUL", "ab", "ab\x00ab"},
		{"after a NUL", "ab\x00ab", "ab\x00cd"},
		{"beyond 72 bytes", long + "a", long + "b"},
		{"longer than 72 bytes", long, long + "a"},
		{"the last of 128", strings.Repeat("x", 127) + "a", strings.Repeat("x", 127) + "b"},
		{"case", "ab", "aB"},
		{"trailing space", "ab", "ab "},
		{"empty", "ab", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			encoded := mustHash(t, hasher, test.set)
			if ok, _, err := hasher.Verify(t.Context(), encoded, sensitive.New(test.set)); !ok || err != nil {
				t.Fatalf("the password itself: %v, %v", ok, err)
			}
			if ok, _, err := hasher.Verify(t.Context(), encoded, sensitive.New(test.tried)); ok || err != nil {
				t.Fatalf("another password: %v, %v", ok, err)
			}
		})
	}
}

func TestSpellingsOfOnePassword(t *testing.T) {
	hasher := quick(t, Options{})
	letters := rapid.SampledFrom([]rune("aZ9 é¨üßñçœﬁＡ①한글ガ漢字кйЁΐ🙂ộ\u00a0\u212b"))
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(letters, 1, 100, -1).Draw(t, "text")
		encoded, err := hasher.Hash(t.Context(), sensitive.New(norm.NFC.String(text)))
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []norm.Form{norm.NFC, norm.NFD, norm.NFKC, norm.NFKD} {
			if ok, _, err := hasher.Verify(t.Context(), encoded, sensitive.New(form.String(text))); !ok || err != nil {
				t.Fatalf("form %d: %v, %v", form, ok, err)
			}
		}
		if ok, _, err := hasher.Verify(t.Context(), encoded, sensitive.New(text+"x")); ok || err != nil {
			t.Fatalf("another password: %v, %v", ok, err)
		}
	})
}

func TestUnusable(t *testing.T) {
	hasher := quick(t, Options{})
	encoded := mustHash(t, hasher, "ab")
	for name, text := range map[string]string{
		"empty":                      "",
		"129 characters":             strings.Repeat("x", 129),
		"129 characters, decomposed": strings.Repeat("e\u0301", 129),
		"grows when normalised":      strings.Repeat("\ufdfa", 20), // 18 characters each
		"a megabyte":                 strings.Repeat("x", 1<<20),
		"bytes that are no text":     "ab\xff",
		"half a surrogate pair":      "ab\xed\xa0\x80",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := hasher.Hash(t.Context(), sensitive.New(text)); !errors.Is(err, ErrUnusable) {
				t.Errorf("hashing: %v", err)
			}
			if ok, _, err := hasher.Verify(t.Context(), encoded, sensitive.New(text)); ok || err != nil {
				t.Errorf("verifying: %v, %v", ok, err)
			}
			if err := hasher.VerifyNothing(t.Context(), sensitive.New(text)); err != nil {
				t.Errorf("verifying nothing: %v", err)
			}
		})
	}
	// The longest password in its longest spelling: 128 syllables of three letters, three
	// bytes each.
	if _, err := hasher.Hash(t.Context(), sensitive.New(norm.NFD.String(strings.Repeat("각", MaxLength)))); err != nil {
		t.Errorf("128 syllables, decomposed: %v", err)
	}
}

func TestRehash(t *testing.T) {
	old := quick(t, Options{})
	today, err := newHasher(Parameters{MemoryKiB: 128, Iterations: 1, Parallelism: 1}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	encoded := mustHash(t, old, "ab")
	if ok, rehash, err := today.Verify(t.Context(), encoded, sensitive.New("ab")); !ok || !rehash || err != nil {
		t.Fatalf("other parameters: %v, %v, %v", ok, rehash, err)
	}
	if ok, rehash, err := today.Verify(t.Context(), encoded, sensitive.New("ac")); ok || rehash || err != nil {
		t.Fatalf("wrong password: %v, %v, %v", ok, rehash, err)
	}
	short := phc{parameters: old.parameters, salt: []byte("saltsalt")}
	short.key = argon2.IDKey([]byte("ab"), short.salt, 1, 64, 1, 16)
	if ok, rehash, err := old.Verify(t.Context(), short.encode(), sensitive.New("ab")); !ok || !rehash || err != nil {
		t.Fatalf("short salt and key: %v, %v, %v", ok, rehash, err)
	}
}

func TestAnAccountWithoutAPasswordLetsNobodyIn(t *testing.T) {
	hasher := quick(t, Options{})
	if ok, rehash, err := hasher.Verify(t.Context(), "", sensitive.New("ab")); ok || rehash || err != nil {
		t.Fatalf("got %v, %v, %v", ok, rehash, err)
	}
}

func TestAMalformedHashIsAnErrorAndQuick(t *testing.T) {
	hasher := quick(t, Options{})
	const salt, key = "c2FsdHNhbHRzYWx0c2FsdA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for _, encoded := range []string{
		"x", "$", "$$$$$", "$argon2id$v=19$m=47104,t=1,p=1$" + salt, "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
		"$argon2i$v=19$m=47104,t=1,p=1$" + salt + "$" + key, "$argon2id$v=16$m=47104,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=4294967295,t=1,p=1$" + salt + "$" + key, "$argon2id$v=19$m=262145,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=47104,t=4294967295,p=1$" + salt + "$" + key, "$argon2id$v=19$m=47104,t=11,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=47104,t=1,p=255$" + salt + "$" + key, "$argon2id$v=19$m=47104,t=1,p=256$" + salt + "$" + key,
		"$argon2id$v=19$m=47104,t=0,p=1$" + salt + "$" + key, "$argon2id$v=19$m=47104,t=1,p=0$" + salt + "$" + key,
		"$argon2id$v=19$m=7,t=1,p=1$" + salt + "$" + key, "$argon2id$v=19$m=-1,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=047104,t=1,p=1$" + salt + "$" + key, "$argon2id$v=19$m=+47104,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$t=1,m=47104,p=1$" + salt + "$" + key, "$argon2id$v=19$m=47104,t=1$" + salt + "$" + key,
		"$argon2id$v=19$m=47104,t=1,p=1,x=1$" + salt + "$" + key, "$argon2id$v=19$47104,1,1$" + salt + "$" + key,
		"$argon2id$v=19$m=47104,t=1,p=1$" + salt + "==$" + key, "$argon2id$v=19$m=47104,t=1,p=1$" + salt + "$" + key + "=",
		"$argon2id$v=19$m=47104,t=1,p=1$" + salt + "$" + key + "\n", "$argon2id$v=19$m=47104,t=1,p=1$" + salt + "$" + key[:42] + "B",
		"$argon2id$v=19$m=47104,t=1,p=1$$" + key, "$argon2id$v=19$m=47104,t=1,p=1$" + salt + "$", "$argon2id$v=19$m=47104,t=1,p=1$" + salt + "$AAAA",
		" $argon2id$v=19$m=47104,t=1,p=1$" + salt + "$" + key, "$argon2id$v=19$m=47104,t=1,p=1$" + salt + "$" + key + "$",
		"$argon2id$v=19$m=47104,t=1,p=1$" + salt + "$" + strings.Repeat(key, 10),
	} {
		if ok, _, err := hasher.Verify(t.Context(), encoded, sensitive.New("ab")); ok || !errors.Is(err, ErrEncoded) {
			t.Errorf("%q: %v, %v", encoded, ok, err)
		}
	}
}

func TestEncodedRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		made := phc{
			parameters: Parameters{
				MemoryKiB:   rapid.Uint32Range(64, maxMemoryKiB).Draw(t, "m"),
				Iterations:  rapid.Uint32Range(1, maxIterations).Draw(t, "t"),
				Parallelism: rapid.Uint8Range(1, maxParallelism).Draw(t, "p"),
			},
			salt: rapid.SliceOfN(rapid.Byte(), minSaltSize, maxSaltSize).Draw(t, "salt"),
			key:  rapid.SliceOfN(rapid.Byte(), minKeySize, maxKeySize).Draw(t, "key"),
		}
		read, err := decode(made.encode())
		if err != nil || read.encode() != made.encode() || read.parameters != made.parameters {
			t.Fatalf("%s gave %s, %v", made.encode(), read.encode(), err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add("$argon2id$v=19$m=47104,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$$$$$")
	f.Fuzz(func(t *testing.T, text string) {
		read, err := decode(text)
		if err != nil {
			if !errors.Is(err, ErrEncoded) {
				t.Fatalf("got %v", err)
			}
			return
		}
		if !read.parameters.bounded() || read.encode() != text {
			t.Fatalf("took %q as %+v", text, read.parameters)
		}
	})
}

func TestParameters(t *testing.T) {
	tests := []struct {
		parameters Parameters
		good       bool
	}{
		{DefaultParameters(), true},
		{Parameters{46 * 1024, 1, 1}, true},
		{Parameters{46*1024 - 1, 1, 1}, false},
		{Parameters{19 * 1024, 2, 1}, true},
		{Parameters{19*1024 - 1, 2, 1}, false},
		{Parameters{12 * 1024, 3, 1}, true},
		{Parameters{9 * 1024, 4, 1}, true},
		{Parameters{7 * 1024, 5, 1}, true},
		{Parameters{7*1024 - 1, 10, 1}, false},
		{Parameters{256 * 1024, 10, 8}, true},
		{Parameters{256*1024 + 1, 1, 1}, false},
		{Parameters{46 * 1024, 0, 1}, false},
		{Parameters{46 * 1024, 11, 1}, false},
		{Parameters{46 * 1024, 1, 0}, false},
		{Parameters{46 * 1024, 1, 9}, false},
		{Parameters{}, false},
	}
	for _, test := range tests {
		_, err := NewHasher(test.parameters, Options{})
		if test.good != (err == nil) || (err != nil && !errors.Is(err, ErrParameters)) {
			t.Errorf("%+v: %v", test.parameters, err)
		}
	}
	for _, options := range []Options{{Workers: -1}, {Queue: -1}} {
		if _, err := NewHasher(DefaultParameters(), options); err == nil {
			t.Errorf("%+v was taken", options)
		}
	}
}

func TestAFullQueueSendsAway(t *testing.T) {
	hasher := quick(t, Options{Workers: 1, Queue: 2})
	hasher.working <- struct{}{} // another caller is working
	hasher.inside <- struct{}{}
	done := make(chan error, 2)
	for range 2 {
		go func() { done <- hasher.VerifyNothing(context.Background(), sensitive.New("ab")) }()
	}
	for len(hasher.inside) < 3 {
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		err := hasher.VerifyNothing(t.Context(), sensitive.New("ab"))
		var full *fault.Fault
		if !errors.As(err, &full) || full.Code != fault.ServiceUnavailable || full.RetryAfter != retryAfter {
			t.Fatalf("got %v", err)
		}
	}
	<-hasher.working // the work is done
	<-hasher.inside
	for range 2 {
		if err := <-done; err != nil {
			t.Fatalf("who waited got %v", err)
		}
	}
	if err := hasher.VerifyNothing(t.Context(), sensitive.New("ab")); err != nil {
		t.Fatalf("afterwards: %v", err)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	hasher := quick(t, Options{Workers: 1, Queue: 1})
	encoded := mustHash(t, hasher, "ab")
	hasher.working <- struct{}{}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := hasher.Verify(ctx, encoded, sensitive.New("ab")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("verifying: %v", err)
	}
	<-hasher.working
	if _, err := hasher.Hash(ctx, sensitive.New("ab")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("hashing with a free worker, for nobody: %v", err)
	}
	if len(hasher.inside) != 0 || len(hasher.working) != 0 {
		t.Fatal("a place was not given back")
	}
}

func TestConcurrentUse(t *testing.T) {
	hasher := quick(t, Options{Workers: 2, Queue: 100})
	encoded := mustHash(t, hasher, "ab")
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if ok, _, err := hasher.Verify(context.Background(), encoded, sensitive.New("ab")); !ok || err != nil {
				t.Error(ok, err)
			}
			err := Check(sensitive.New("correct horse battery staple"), Person{Email: "a@b.example"}, "/password")
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestCheck(t *testing.T) {
	about := Person{
		FirstName:    "Zoë",
		LastName:     "Müller-Ng",
		Email:        "zoe.mueller@acme-corp.example",
		CustomerSlug: "acme-corp",
		CustomerName: "Acme Corporation Ltd",
	}
	tests := []struct {
		name, password string
		good           bool
	}{
		{"four words", "correct horse battery staple", true},
		{"fifteen letters of chance", "xkqzjvwpdhytbng", true},
		{"signs of chance", "xK9#mQ2$vL7@pR4!", true},
		{"a sentence", "ich fahre gern mit dem zug", true},
		{"words in Cyrillic", "лошадь скрепка батарея", true},
		{"words in Chinese", "馬電池釘書針正確綠茶火車雨傘森林", true},
		{"128 of chance", strings.Repeat("xkqzjvwpdhytbngaf", 7) + "sdk fjwoe", true},
		{"nothing", "", false},
		{"fourteen letters of chance", "xkqzjvwpdhytbn", false},
		{"fourteen, decomposed to more", "xkqzjvwpdhytbe\u0301", false},
		{"129", strings.Repeat("xkqzjvwpd", 14) + "abc", false},
		{"a megabyte", strings.Repeat("xkqzjvwpd", 1<<17), false},
		{"bytes that are no text", "xkqzjvwpdhytbng\xff", false},
		{"one letter", "aaaaaaaaaaaaaaaaaaaa", false},
		{"one block", "xkqxkqxkqxkqxkqxkq", false},
		{"digits in order", "123456789012345678", false},
		{"letters in order", "abcdefghijklmnopq", false},
		{"Cyrillic in order", "абвгдежзийклмноп", false},
		{"along the keyboard", "qwertyuiopasdfgh", false},
		{"a common word twice", "passwordpassword", false},
		{"in other signs", "P@ssw0rd12345678", false},
		{"fullwidth", "ｐａｓｓｗｏｒｄｐａｓｓｗｏｒｄ", false},
		{"season and year", "Winter2026Winter2026", false},
		{"the product", "fusions-steward-fusions", false},
		{"the address", "zoe.mueller@acme-corp.example", false},
		{"the names", "ZoëMüllerNgZoëMüller1", false},
		{"the names without accents", "zoemullerngzoemuller1", false},
		{"the names in other signs", "z03mu113rng4cm3c0rp", false},
		{"the customer", "acmecorporation2026", false},
		{"only accents", strings.Repeat("\u0301", 20), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := Check(sensitive.New(test.password), about, "/new_password")
			if test.good {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			var weak *fault.Fault
			if !errors.As(err, &weak) || weak.Code != fault.WeakPassword || len(weak.Members) != 1 ||
				weak.Members[0].Pointer != "/new_password" {
				t.Fatalf("got %v", err)
			}
			if test.password != "" && strings.Contains(fmt.Sprintf("%+v", *weak), test.password) {
				t.Fatal("the fault holds the password")
			}
		})
	}
}

// The library under Check has panicked and hung on unexpected texts.
func TestCheckSurvivesAnyText(t *testing.T) {
	anything := rapid.OneOf(
		rapid.String(),
		rapid.StringOfN(rapid.SampledFrom([]rune("4@8({[<369!1|0$5+7%2aAéЖ한🙂\x00\u0301 qwezxc")), 0, 130, -1),
	)
	rapid.Check(t, func(t *rapid.T) {
		text := anything.Draw(t, "password")
		about := Person{
			FirstName:    anything.Draw(t, "first"),
			Email:        anything.Draw(t, "email"),
			CustomerName: strings.Repeat(text, 40),
		}
		began := time.Now()
		_ = Check(sensitive.New(text), about, "/password")
		if took := time.Since(began); took > 20*time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

func FuzzCheck(f *testing.F) {
	f.Add("correct horse battery staple", "Zoë")
	f.Add("4@8({[<369!1|0$5+7%24@8({[<369", "é")
	f.Fuzz(func(_ *testing.T, password, name string) {
		_ = Check(sensitive.New(password), Person{FirstName: name, Email: name}, "/password")
	})
}

func BenchmarkHash(b *testing.B) {
	hasher, err := NewHasher(DefaultParameters(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		mustHash(b, hasher, "correct horse battery staple")
	}
}

// BenchmarkCheck judges the costliest kind of password that is known: one that keeps to its
// neighbours on the keyboard.
func BenchmarkCheck(b *testing.B) {
	password := sensitive.New("x" + strings.Repeat("Zaq1Xsw2Cde3", 6))
	b.ReportAllocs()
	for b.Loop() {
		_ = Check(password, Person{}, "/password")
	}
}
