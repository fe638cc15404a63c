package strictjson_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/infra/strictjson"
)

func nested(levels int) string {
	return strings.Repeat(`{"a":[`, levels/2) + strings.Repeat("[", levels%2) +
		strings.Repeat("]", levels%2) + strings.Repeat(`]}`, levels/2)
}

type object = map[string]any

type array = []any

// accepted are texts with what they hold, and how they are written plainly if not as they are.
var accepted = []struct {
	text  string
	value any
	plain string
}{
	{`null`, nil, ""},
	{` true `, true, ""},
	{"\t\r\n false", false, ""},
	{`""`, "", ""},
	{`"a"`, "a", ""},
	{`"Zoë 😀"`, "Zoë 😀", ""},
	{`"\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00"`, "\"\\/\b\f\n\r\té😀", ""},
	{"\"\u2028\ufeff\uffff\x7f\"", "\u2028\ufeff\uffff\x7f", ""},
	{`{}`, object{}, ""},
	{`[]`, array{}, ""},
	{`{"":{"":null}}`, object{"": object{"": nil}}, ""},
	{` { "a" : [ 1 , "b" , { } ] , "c" : null } `, object{"a": array{1.0, "b", object{}}, "c": nil}, ""},
	{`{"\u0061":1,"A":2}`, object{"a": 1.0, "A": 2.0}, ""},
	{`[{"a":1},{"a":2}]`, array{object{"a": 1.0}, object{"a": 2.0}}, ""},
	{`0`, 0.0, ""},
	{`-0`, 0.0, ""},
	{`0.1`, 0.1, ""},
	{`-2.5e-3`, -0.0025, ""},
	{`5e-324`, 5e-324, ""},
	{`1e-999`, 0.0, "0"},
	{`9007199254740993`, 9007199254740992.0, ""},
	{`9223372036854775807`, 9223372036854775807.0, ""},
	{`-9223372036854775808`, -9223372036854775808.0, ""},
	{`-9223372036854775808.0`, -9223372036854775808.0, "-9223372036854775808"},
	{`[1.0, 1e3 ,10E-1,-0.0,1.5]`, array{1.0, 1000.0, 1.0, 0.0, 1.5}, `[1, 1000 ,1,0,1.5]`},
	{`{"1.0":1.0,"b":"1.0"}`, object{"1.0": 1.0, "b": "1.0"}, `{"1.0":1,"b":"1.0"}`},
	{nested(3), object{"a": array{array{}}}, ""},
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, test := range accepted {
		document, violation := strictjson.Decode([]byte(test.text))
		if violation != nil {
			t.Errorf("%s is refused: %+v", test.text, violation)
			continue
		}
		if !reflect.DeepEqual(document.Value, test.value) {
			t.Errorf("%s holds %#v, not %#v", test.text, document.Value, test.value)
		}
		if test.plain == "" {
			test.plain = test.text
		}
		if document.Plain != test.plain {
			t.Errorf("%s is plainly %s, not %s", test.text, document.Plain, test.plain)
		}
	}
	if _, violation := strictjson.Decode([]byte(nested(strictjson.MaxDepth))); violation != nil {
		t.Errorf("the permitted depth is refused: %+v", violation)
	}
}

const (
	early   = "is not JSON: it ends too early"
	notJSON = "is not JSON"
	control = "is not JSON: it holds a control character that is not escaped"
	more    = "holds more than one JSON value"
	twice   = "is given twice"
	utf8    = "is not UTF-8"
	nul     = "holds the character NUL, which is not taken"
	half    = "holds half of a surrogate pair"
	large   = "is a number too large to be taken"
	long    = "is a number of more than 30 characters"
	deep    = "is nested too deeply: at most 32 levels are taken"
)

// refused are texts with the place of what is wrong, its names and positions each after a slash.
var refused = []struct{ text, place, detail string }{
	{``, "", early},
	{` `, "", early},
	{`nul`, "", notJSON},
	{`[tru`, "/0", notJSON},
	{`True`, "", notJSON},
	{`NaN`, "", notJSON},
	{`'a'`, "", notJSON},
	{"\xef\xbb\xbf{}", "", notJSON},
	{"\x00", "", notJSON},
	{`,`, "", notJSON},
	{`:1`, "", notJSON},
	{`]`, "", notJSON},

	{`{`, "", early},
	{`{"a`, "", early},
	{`{"a"`, "/a", early},
	{`{"a":`, "/a", early},
	{`{"a":1`, "", early},
	{`{"a":1,`, "", early},
	{`{]`, "", notJSON},
	{`{,}`, "", notJSON},
	{`{a:1}`, "", notJSON},
	{`{1:2}`, "", notJSON},
	{`{{}:2}`, "", notJSON},
	{`{null:2}`, "", notJSON},
	{`{"a" "b"}`, "/a", notJSON},
	{`{"a","b"}`, "/a", notJSON},
	{`{"a":}`, "/a", notJSON},
	{`{"a":,}`, "/a", notJSON},
	{`{"a":1,}`, "", notJSON},
	{`{"a":1 "b":2}`, "", notJSON},
	{`{"a":1:"b"}`, "", notJSON},
	{`{"a":1]`, "", notJSON},

	{`[`, "/0", early},
	{`[1`, "", early},
	{`[1,`, "/1", early},
	{`[1,]`, "/1", notJSON},
	{`[1 , ]`, "/1", notJSON},
	{`[,1]`, "/0", notJSON},
	{`[1,,2]`, "/1", notJSON},
	{`[1 2]`, "", notJSON},
	{`[1:2]`, "", notJSON},
	{`[1}`, "", notJSON},
	{`[}`, "/0", notJSON},
	{`[[1,2],[3,x]]`, "/1/1", notJSON},
	{`{"a":[{"b":[0,{"c":?}]}]}`, "/a/0/b/1/c", notJSON},

	{`{} {}`, "", more},
	{`[]]`, "", more},
	{`1,`, "", more},
	{`01`, "", more},
	{"{}\x00", "", more},

	{`{"a":1,"a":1}`, "/a", twice},
	{`{"a":1,"\u0061":2}`, "/a", twice},
	{`{"":1,"":2}`, "/", twice},
	{`[{"a":{"b":null,"c":0,"b":null}}]`, "/0/a/b", twice},

	{"\"\xff\"", "", utf8},
	{"[\"\\n\xc3\"]", "/0", utf8},
	{"{\"a\xff\":1}", "", utf8},
	{"\"\xc0\x80\"", "", utf8},
	{"\"\xed\xa0\x80\"", "", utf8},
	{"\"\xf4\x90\x80\x80\"", "", utf8},
	{`"\ud800"`, "", half},
	{`{"a":"\ud800\u0041"}`, "/a", half},
	{`{"a":"\udc00\ud800"}`, "/a", half},
	{`{"a":"\ud800\n"}`, "/a", half},
	{`{"a":"\uDFFFxxxxxxx"}`, "/a", half},
	{`{"\ud800":1}`, "", half},
	{`"\u0000"`, "", nul},
	{`{"a":["","b\u0000"]}`, "/a/1", nul},
	{`{"a\u0000":1}`, "", nul},
	{"\"\x00\"", "", control},
	{"[\"\\n\n\"]", "/0", control},
	{"{\"a\x1f\":1}", "", control},
	{`"\x"`, "", notJSON},
	{`{"a":"\u12"}`, "/a", notJSON},
	{`{"a":"\u12g4"}`, "/a", notJSON},
	{`"\`, "", early},
	{`"\u00`, "", early},
	{`"abc`, "", early},
	{"\"\xc3", "", early},

	{`{"a":01}`, "", notJSON},
	{`{"a":+1}`, "/a", notJSON},
	{`{"a":.1}`, "/a", notJSON},
	{`{"a":1.}`, "/a", notJSON},
	{`{"a":1e}`, "/a", notJSON},
	{`{"a":--1}`, "/a", notJSON},
	{`{"a":0x10}`, "", notJSON},
	{`-`, "", early},
	{`[1.`, "/0", early},
	{`{"a":1e999}`, "/a", large},
	{`{"a":-1e999}`, "/a", large},
	{`1e20`, "", large},
	{`9223372036854775808`, "", large},
	{`-9223372036854775809`, "", large},
	{`9223372036854775808.0`, "", large},
	{strings.Repeat("1", 31), "", long},
	{"[0." + strings.Repeat("1", 29) + "]", "/0", long},

	{nested(33), strings.Repeat("/a/0", 16), deep},
	{strings.Repeat("[", 100000), strings.Repeat("/0", 32), deep},
	{strings.Repeat(`{"":`, 100000), strings.Repeat("/", 32), deep},
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range refused {
		name := fmt.Sprintf("%.40q", test.text)
		document, violation := strictjson.Decode([]byte(test.text))
		if violation == nil {
			t.Errorf("%s is accepted", name)
			continue
		}
		place := ""
		for _, step := range violation.Path {
			place += "/" + step
		}
		if place != test.place || violation.Detail != test.detail {
			t.Errorf("%s: %q %s; want %q %s", name, place, violation.Detail, test.place, test.detail)
		}
		if document.Value != nil || document.Plain != "" {
			t.Errorf("%s is refused, and returned as %+v", name, document)
		}
	}
}

// The text may be a buffer that is used again.
func TestDecodeDoesNotRetainTheText(t *testing.T) {
	t.Parallel()
	text := []byte(`{"name":["plain","esc\taped",1.0]}`)
	document, violation := strictjson.Decode(text)
	if violation != nil {
		t.Fatal(violation)
	}
	clear(text)
	want := object{"name": array{"plain", "esc\taped", 1.0}}
	if !reflect.DeepEqual(document.Value, want) || document.Plain != `{"name":["plain","esc\taped",1]}` {
		t.Errorf("%+v after the text has been overwritten", document)
	}
}

// What a text of one MiB makes the decoder allocate is bounded, whatever it holds. Not parallel:
// the figure is the whole program's.
func TestDecodeMemory(t *testing.T) {
	const size, most = 1 << 20, 96 // bytes, and bytes for each of them
	repeated := func(before, unit, after string) []byte {
		return []byte(before + strings.Repeat(unit, (size-len(before)-len(after))/len(unit)) + after)
	}
	var members strings.Builder
	for i := 0; members.Len() < size-20; i++ {
		fmt.Fprintf(&members, `"%x":0,`, i)
	}
	for name, text := range map[string][]byte{
		"empty objects":   repeated("[", "{},", "{}]"),
		"empty arrays":    repeated("[", "[],", "[]]"),
		"small objects":   repeated("[", `{"":0},`, "{}]"),
		"digits":          repeated("[", "0,", "0]"),
		"rewrites":        repeated("[", "1.0,", "1]"),
		"many members":    []byte("{" + members.String() + `"x":0}`),
		"one string":      repeated(`"`, "a", `"`),
		"an escaped one":  repeated(`"`, `\n`, `"`),
		"one long number": repeated("", "1", ""),
		"white space":     repeated("", " ", "1"),
		"only beginnings": repeated("", "[", ""),
		"an open string":  repeated(`["`, "a", ""),
		"a bad last byte": repeated("[", "0,", "x"),
		"escaped pairs":   repeated(`"`, `\ud83d\ude00`, `"`),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		document, _ := strictjson.Decode(text)
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(document)
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > most*size {
			t.Errorf("%s: %d bytes are allocated for each byte of the text", name, allocated/size)
		} else {
			t.Logf("%s: %.1f bytes for each byte of the text", name, float64(allocated)/size)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{
		"0": 0, "-0": 0, "50": 50, "-7": -7, "1.5": 1.5, "1.0": 1, "1e3": 1000, "2E-1": 0.2,
		"9223372036854775807": 9223372036854775807, "-9223372036854775808": -9223372036854775808,
	} {
		if value, ok := strictjson.Number(text); !ok || value != want {
			t.Errorf("%s is %v, %v", text, value, ok)
		}
	}
	for _, text := range []string{
		"", "-", "+1", " 1", "1 ", "1\n", "01", "1.", ".5", "1e", "1e+", "0x1", "1_000", "1,2", "1 2", "-a1",
		"NaN", "Infinity", "null", `"1"`, "[1]", "٣", "1\x002", "1e999", "1e20", "9223372036854775808",
		strings.Repeat("1", 31), "0." + strings.Repeat("0", 30),
	} {
		if value, ok := strictjson.Number(text); ok {
			t.Errorf("%q is the number %v", text, value)
		}
	}
}

// FuzzDecode compares with encoding/json, which has to accept everything that Decode accepts, with
// the same value, and to refuse everything that Decode says is not JSON.
func FuzzDecode(f *testing.F) {
	for _, test := range accepted {
		f.Add([]byte(test.text))
	}
	for _, test := range refused {
		if len(test.text) < 1<<10 {
			f.Add([]byte(test.text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var theirs any
		err := json.Unmarshal(text, &theirs)
		document, violation := strictjson.Decode(text)
		if violation != nil {
			grammar := strings.HasPrefix(violation.Detail, notJSON) || violation.Detail == more
			if grammar && json.Valid(text) {
				t.Errorf("%q: %+v, and encoding/json accepts it", text, violation)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q is accepted, and encoding/json says %v", text, err)
		}
		if !reflect.DeepEqual(document.Value, theirs) {
			t.Errorf("%q holds %#v, by encoding/json %#v", text, document.Value, theirs)
		}
		var plain any
		if err := json.Unmarshal([]byte(document.Plain), &plain); err != nil || !reflect.DeepEqual(plain, theirs) {
			t.Errorf("%q is plainly %q, which holds %#v (%v)", text, document.Plain, plain, err)
		}
		again, violation := strictjson.Decode([]byte(document.Plain))
		if violation != nil || again.Plain != document.Plain {
			t.Errorf("%q is plainly %q, and that is plainly %q (%+v)", text, document.Plain, again.Plain, violation)
		}
		value, isNumber := strictjson.Number(string(text))
		if isNumber && value != document.Value {
			t.Errorf("the number %q is %v, in a body %v", text, value, document.Value)
		}
		if _, want := document.Value.(float64); want && !isNumber && strings.Trim(string(text), " \t\r\n") == string(text) {
			t.Errorf("%q is a number in a body, and not alone", text)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	const entry = `{"action":"user.updated","id":"0190e0d0-0000-7000-8000-000000000001","count":12,"note":"a\nb",` +
		`"details":{"changed":["email","role"],"by":null,"share":0.25}}`
	for _, size := range []int{len(entry), 1 << 10, 1 << 20} {
		text := []byte("[" + strings.Repeat(entry+",", size/len(entry)-1) + entry + "]")
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, violation := strictjson.Decode(text); violation != nil {
					b.Fatal(violation)
				}
			}
		})
	}
}
