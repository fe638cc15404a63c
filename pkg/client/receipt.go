package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// ReceiptType is the typ of a signed receipt: what the signature is for, so that nothing else that
// the service signs passes for one (RFC 8725, section 3.11).
const ReceiptType = "steward-erasure-receipt+jws"

// What is wrong with a receipt that does not verify.
var (
	ErrReceiptForm      = errors.New("steward: this is no signed erasure receipt")
	ErrReceiptKey       = errors.New("steward: the receipt was signed with a key that is not in the key set")
	ErrReceiptSignature = errors.New("steward: the signature does not belong to the receipt: one of them was changed")
	ErrReceiptDiffers   = errors.New("steward: the receipt says something else than what was signed")
)

// ReceiptDifference names the members of a receipt that are not as they were signed. It is an
// [ErrReceiptDiffers].
type ReceiptDifference struct{ Members []string }

// Error implements error.
func (d *ReceiptDifference) Error() string {
	return fmt.Sprintf("%v: %s", ErrReceiptDiffers, strings.Join(d.Members, ", "))
}

// Unwrap has errors.Is find ErrReceiptDiffers.
func (d *ReceiptDifference) Unwrap() error { return ErrReceiptDiffers }

// SignedReceipt is a receipt whose signature was verified.
type SignedReceipt struct {
	Issuer   string         // the service that signed it, by its public URL
	SignedAt time.Time      // to the second; the state is as it was then
	KeyID    string         // with which key of /.well-known/jwks.json
	Receipt  ErasureReceipt // as it was signed
}

// SigningKeys returns the public keys of the service, those of erasure receipts among them, for
// [VerifyReceipt]. Those of receipts stay for good, so a copy can be kept.
func (c *Client) SigningKeys(ctx context.Context) (SigningKeys, error) {
	return into[SigningKeys](&call{})(c.raw.GetSigningKeys(ctx))
}

// VerifyReceipt verifies an erasure receipt without asking anybody: a JWS in compact form (RFC
// 7515, section 7.1), signed with Ed25519 (RFC 8037), as the member jws of GET
// /v1/erasure-receipts/{id} holds it. The keys are those of /.well-known/jwks.json, from a copy
// that you trust; keys that sign receipts stay there for good.
//
// document is the JWS alone, or the whole JSON answer, of which every member is then compared with
// what was signed. An [ErasureReceipt], written as JSON, is such an answer.
//
// Errors: [ErrReceiptForm], [ErrReceiptKey], [ErrReceiptSignature], [ErrReceiptDiffers], each with
// what is wrong.
func VerifyReceipt(document []byte, keys SigningKeys) (SignedReceipt, error) {
	document = bytes.Trim(document, " \t\r\n")
	if !bytes.HasPrefix(document, []byte("{")) {
		verified, _, err := verifyReceipt(string(document), keys)
		return verified, err
	}
	shown, err := strictObject(document)
	if err != nil {
		return SignedReceipt{}, malformedReceipt(err.Error())
	}
	jws, ok := shown["jws"].(string)
	if !ok {
		return SignedReceipt{}, malformedReceipt("it has no member jws")
	}
	verified, signed, err := verifyReceipt(jws, keys)
	if err != nil {
		return SignedReceipt{}, err
	}
	delete(shown, "jws")
	var differing []string
	for name := range maps.Keys(shown) {
		if there, both := signed[name]; !both || !reflect.DeepEqual(shown[name], there) {
			differing = append(differing, name)
		}
	}
	for name := range maps.Keys(signed) {
		if _, both := shown[name]; !both {
			differing = append(differing, name)
		}
	}
	if len(differing) > 0 {
		slices.Sort(differing)
		return SignedReceipt{}, &ReceiptDifference{differing}
	}
	return verified, nil
}

func malformedReceipt(what string) error { return fmt.Errorf("%w: %s", ErrReceiptForm, what) }

// verifyReceipt verifies a JWS, and returns the members of the receipt as they were signed.
func verifyReceipt(jws string, keys SigningKeys) (verified SignedReceipt, signed map[string]any, err error) {
	proof, signed, err := verifyProof(jws, keys, ReceiptType, "receipt")
	if err != nil {
		return verified, nil, err
	}
	verified = SignedReceipt{Issuer: proof.issuer, SignedAt: proof.signedAt, KeyID: proof.keyID}
	if err := reread(signed, &verified.Receipt); err != nil {
		return verified, nil, malformedReceipt("the payload of the JWS holds no receipt")
	}
	verified.Receipt.Jws = jws
	return verified, signed, nil
}

// reread reads members that were read before as what they are.
func reread(members map[string]any, into any) error {
	text, err := json.Marshal(members)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// proof is what is known of a signature that was verified.
type proof struct {
	issuer   string
	signedAt time.Time
	keyID    string
}

// verifyProof verifies a JWS of a type, and returns what its payload has as the member.
func verifyProof(jws string, keys SigningKeys, typ, member string) (verified proof, signed map[string]any, err error) {
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		return verified, nil, malformedReceipt("a JWS has three parts with dots between them")
	}
	var decoded [3][]byte
	for i, name := range []string{"header", "payload", "signature"} {
		// The decoder skips ends of lines, which no JWS has.
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(parts[i]); err != nil || strings.ContainsAny(parts[i], "\r\n") {
			return verified, nil, malformedReceipt("the " + name + " of the JWS is not base64url")
		}
	}
	header, err := strictObject(decoded[0])
	keyID, named := header["kid"].(string)
	if err != nil || len(header) != 3 || header["alg"] != "EdDSA" || header["typ"] != typ || !named {
		return verified, nil, malformedReceipt("the header of the JWS is not that of a " + member)
	}
	public, err := receiptKey(keyID, keys)
	if err != nil {
		return verified, nil, err
	}
	if !ed25519.Verify(public, []byte(parts[0]+"."+parts[1]), decoded[2]) {
		return verified, nil, ErrReceiptSignature
	}
	claims, err := strictObject(decoded[1])
	if err != nil {
		return verified, nil, malformedReceipt("the payload of the JWS: " + err.Error())
	}
	issuer, hasIssuer := claims["iss"].(string)
	number, _ := claims["iat"].(json.Number)
	issuedAt, errIssued := number.Int64()
	signed, has := claims[member].(map[string]any)
	if len(claims) != 3 || !hasIssuer || errIssued != nil || !has {
		return verified, nil, malformedReceipt("the payload of the JWS is not that of a " + member)
	}
	return proof{issuer: issuer, signedAt: time.Unix(issuedAt, 0).UTC(), keyID: keyID}, signed, nil
}

// receiptKey finds a key by its id, which must be the thumbprint of the key (RFC 7638).
func receiptKey(keyID string, keys SigningKeys) (ed25519.PublicKey, error) {
	for _, key := range keys.Keys {
		if key.Kid != keyID {
			continue
		}
		public, err := base64.RawURLEncoding.Strict().DecodeString(key.X)
		thumbprint := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + key.X + `"}`))
		if err != nil || len(public) != ed25519.PublicKeySize || base64.RawURLEncoding.EncodeToString(thumbprint[:]) != keyID {
			return nil, fmt.Errorf("%w: what the key set has under %s is another key", ErrReceiptKey, keyID)
		}
		return public, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrReceiptKey, keyID)
}

// deepest is how deep a receipt may be nested.
const deepest = 8

// strictObject reads a JSON object and nothing behind it. Two members of one name are refused:
// readers differ in which of them they take. Numbers stay as they are written.
func strictObject(text []byte) (map[string]any, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("it is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	value, err := strictValue(decoder, 0)
	if err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind the JSON")
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("it is no JSON object")
	}
	return object, nil
}

func strictValue(decoder *json.Decoder, depth int) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, fmt.Errorf("it is not JSON, from byte %d on", decoder.InputOffset())
	}
	delimiter, nested := token.(json.Delim)
	if !nested {
		return token, nil
	}
	if depth == deepest {
		return nil, errors.New("it is nested too deep")
	}
	object, list := map[string]any{}, []any{}
	for decoder.More() {
		name := ""
		if delimiter == '{' {
			token, err := decoder.Token()
			text, isText := token.(string)
			if err != nil || !isText {
				return nil, fmt.Errorf("it is not JSON, from byte %d on", decoder.InputOffset())
			}
			name = text
			if _, twice := object[name]; twice {
				return nil, fmt.Errorf("the member %q is there twice", name)
			}
		}
		value, err := strictValue(decoder, depth+1)
		if err != nil {
			return nil, err
		}
		if delimiter == '{' {
			object[name] = value
		} else {
			list = append(list, value)
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, fmt.Errorf("it is not JSON, from byte %d on", decoder.InputOffset())
	}
	if delimiter == '{' {
		return object, nil
	}
	return list, nil
}
