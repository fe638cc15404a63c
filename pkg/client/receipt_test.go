package client_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/fusionspim/steward/pkg/client"
	"github.com/fusionspim/steward/pkg/client/api"
)

// signer signs receipts as a service does.
type signer struct {
	private ed25519.PrivateKey
	key     client.SigningKey
}

func newSigner(number byte) signer {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = number
	private := ed25519.NewKeyFromSeed(seed)
	x := base64.RawURLEncoding.EncodeToString(private.Public().(ed25519.PublicKey))
	thumbprint := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return signer{private, client.SigningKey{Kty: "OKP", Crv: "Ed25519", X: x, Alg: "EdDSA", Use: "sig", Kid: base64.RawURLEncoding.EncodeToString(thumbprint[:])}}
}

func (s signer) sign(header, payload string) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(header)) + "." + encode([]byte(payload))
	return text + "." + encode(ed25519.Sign(s.private, []byte(text)))
}

func (s signer) header() string {
	return `{"alg":"EdDSA","kid":"` + s.key.Kid + `","typ":"` + client.ReceiptType + `"}`
}

const (
	receiptMembers = `"id":"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071","kind":"deletion","user_id":"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072","label":null,"reason":null,` +
		`"ordered_by":{"authority":"api_key","user_id":null,"api_key_id":"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6073"},"completed_at":"2026-11-24T09:30:00.123456Z",` +
		`"removed":[{"store":"profile","count":1}],"kept":[],"backups_expire_at":null,"state":"pending","live_complete_at":null,"final_at":null`
	receiptPayload = `{"iss":"https://steward.example","iat":1764000000,"receipt":{` + receiptMembers + `}}`
)

func TestVerifyReceipt(t *testing.T) {
	t.Parallel()
	us, stranger := newSigner(1), newSigner(2)
	keys := client.SigningKeys{Keys: []client.SigningKey{newSigner(3).key, us.key}}
	good := us.sign(us.header(), receiptPayload)
	document := func(members, jws string) string { return "{" + members + `,"jws":"` + jws + `"}` }
	for name, text := range map[string]string{
		"the JWS":                       good,
		"the JWS in a file":             good + "\r\n",
		"the answer":                    document(receiptMembers, good),
		"the answer, written otherwise": "\n { \"jws\" : \"" + good + "\", " + strings.ReplaceAll(receiptMembers, ",", " ,\n\t") + " } \n",
	} {
		signed, err := client.VerifyReceipt([]byte(text), keys)
		if err != nil || signed.Issuer != "https://steward.example" || signed.KeyID != us.key.Kid || signed.SignedAt.Unix() != 1764000000 || signed.Receipt.Jws != good ||
			signed.Receipt.Kind != api.ErasureReceiptKindDeletion {
			t.Errorf("%s: %v %+v", name, err, signed)
		}
	}
	with := func(old, new string) string {
		return us.sign(us.header(), strings.Replace(receiptPayload, old, new, 1))
	}
	for name, test := range map[string]struct {
		text  string
		want  error
		names string
	}{
		"nothing":                  {"", client.ErrReceiptForm, "three parts"},
		"an unsigned receipt":      {"{" + receiptMembers + "}", client.ErrReceiptForm, "jws"},
		"a receipt without one":    {"{" + receiptMembers + `,"jws":null}`, client.ErrReceiptForm, "jws"},
		"half a document":          {document(receiptMembers, good)[:300], client.ErrReceiptForm, "byte 300"},
		"two documents":            {document(receiptMembers, good) + document(receiptMembers, good), client.ErrReceiptForm, "behind"},
		"no UTF-8":                 {document(receiptMembers+",\"x\":\"\xff\"", good), client.ErrReceiptForm, "UTF-8"},
		"deep":                     {strings.Repeat(`{"x":`, 100) + "1" + strings.Repeat("}", 100), client.ErrReceiptForm, "deep"},
		"a member twice":           {document(receiptMembers+`,"kind":"deletion"`, good), client.ErrReceiptForm, `"kind"`},
		"one more member":          {document(receiptMembers+`,"note":"x"`, good), client.ErrReceiptDiffers, "note"},
		"one member less":          {document(strings.Replace(receiptMembers, `"kept":[],`, "", 1), good), client.ErrReceiptDiffers, "kept"},
		"two others":               {document(strings.NewReplacer(`"count":1`, `"count":2`, "deletion", "redaction").Replace(receiptMembers), good), client.ErrReceiptDiffers, "kind, removed"},
		"a number written anew":    {document(strings.Replace(receiptMembers, `"count":1`, `"count":1.0`, 1), good), client.ErrReceiptDiffers, "removed"},
		"another's key":            {stranger.sign(stranger.header(), receiptPayload), client.ErrReceiptKey, stranger.key.Kid},
		"another's key under ours": {stranger.sign(us.header(), receiptPayload), client.ErrReceiptSignature, ""},
		"an access token":          {us.sign(strings.Replace(us.header(), client.ReceiptType, "at+jwt", 1), receiptPayload), client.ErrReceiptForm, "header"},
		"another algorithm":        {us.sign(strings.Replace(us.header(), "EdDSA", "none", 1), receiptPayload), client.ErrReceiptForm, "header"},
		"one more in the header":   {us.sign(strings.Replace(us.header(), "{", `{"crit":["x"],`, 1), receiptPayload), client.ErrReceiptForm, "header"},
		"another spelling":         {us.sign(strings.Replace(us.header(), "alg", "ALG", 1), receiptPayload), client.ErrReceiptForm, "header"},
		"no issuer":                {with(`"iss":"https://steward.example"`, `"iss":null`), client.ErrReceiptForm, "payload"},
		"no time":                  {with("1764000000", "1e9"), client.ErrReceiptForm, "payload"},
		"one more in the payload":  {with(`"iat"`, `"exp":1,"iat"`), client.ErrReceiptForm, "payload"},
		"no receipt":               {with(receiptMembers, `"id":7`), client.ErrReceiptForm, "no receipt"},
		"twice in the payload":     {with(`"iat"`, `"iss":"x","iat"`), client.ErrReceiptForm, `"iss"`},
		"padded":                   {good + "==", client.ErrReceiptForm, "base64url"},
		"ends of lines":            {good[:20] + "\n" + good[20:], client.ErrReceiptForm, "base64url"},
		"no signature":             {good[:strings.LastIndex(good, ".")+1], client.ErrReceiptSignature, ""},
	} {
		_, err := client.VerifyReceipt([]byte(test.text), keys)
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.names) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// A key set in which another key goes by the name of ours.
	swapped := client.SigningKeys{Keys: []client.SigningKey{us.key}}
	swapped.Keys[0].X = stranger.key.X
	if _, err := client.VerifyReceipt([]byte(stranger.sign(us.header(), receiptPayload)), swapped); !errors.Is(err, client.ErrReceiptKey) {
		t.Errorf("a swapped key: %v", err)
	}
}

// FuzzVerifyReceipt: whatever comes, the verifier does not break, and what it takes is what was
// signed.
func FuzzVerifyReceipt(f *testing.F) {
	us := newSigner(1)
	keys := client.SigningKeys{Keys: []client.SigningKey{us.key}}
	good := us.sign(us.header(), receiptPayload)
	f.Add([]byte(good))
	f.Add([]byte("{" + receiptMembers + `,"jws":"` + good + `"}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		signed, err := client.VerifyReceipt(document, keys)
		if err != nil {
			return
		}
		text, err := json.Marshal(signed.Receipt)
		if err != nil || !strings.Contains(string(document), good) {
			t.Fatalf("%q was taken: %v", document, err)
		}
		if _, err := client.VerifyReceipt(text, keys); err != nil {
			t.Fatal(err)
		}
	})
}
