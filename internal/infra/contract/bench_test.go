package contract_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func BenchmarkCheckGET(b *testing.B) {
	op := operation(b, load(b), "GET", "/v1/users")
	r := request("GET", "/v1/users?limit=50&status=active&cursor=abc", "")
	b.ReportAllocs()
	for b.Loop() {
		if err := op.Check(r, nil); err != nil {
			b.Fatal(told(err))
		}
	}
}

func BenchmarkCheckGETOne(b *testing.B) {
	op := operation(b, load(b), "GET", "/v1/users/{id}")
	r, params := request("GET", "/v1/users/x", ""), map[string]string{"id": userID}
	b.ReportAllocs()
	for b.Loop() {
		if err := op.Check(r, params); err != nil {
			b.Fatal(told(err))
		}
	}
}

func BenchmarkCheckPOST(b *testing.B) {
	benchmarkBody(b, "/v1/users", `{"first_name":"Jo","email":"jo@example.com","role":"user","age":30,"tags":["a","b"]}`)
}

func BenchmarkCheckBatch1000(b *testing.B) { benchmarkBody(b, "/v1/audit-entries", batchOf(1000)) }

// BenchmarkCheckBatch1000Bad is what a hostile or broken sender costs: every entry has faults, all of different kinds.
func BenchmarkCheckBatch1000Bad(b *testing.B) {
	op := operation(b, load(b), "POST", "/v1/audit-entries")
	text := "[" + strings.Repeat(`{"action":1,"details":{"a":{},"b":[]},"x":1},`, 999) + "{}]"
	b.ReportAllocs()
	for b.Loop() {
		if err := op.Check(request("POST", "/x", text), nil); err == nil {
			b.Fatal("let through")
		}
	}
}

func benchmarkBody(b *testing.B, path, text string) {
	b.Helper()
	op := operation(b, load(b), http.MethodPost, path)
	r := request(http.MethodPost, path, text)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		if err := op.Check(r, nil); err != nil {
			b.Fatal(told(err))
		}
	}
}
