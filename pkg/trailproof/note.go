package trailproof

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A checkpoint is a signed note (C2SP signed-note) with exactly one signature, which is much less
// than golang.org/x/mod/sumdb/note reads. That module would raise the Go version that users of this
// one need to the newest, so the part that is needed is here; the tests compare both.

const (
	algEd25519      = 1
	keyHashSize     = 4
	signaturePrefix = "\u2014 "
)

// verifierKey is a public key and the name that it signs for.
type verifierKey struct {
	name   string
	hash   [keyHashSize]byte
	public ed25519.PublicKey
}

func newVerifierKey(name string, public ed25519.PublicKey) (verifierKey, error) {
	spaced := strings.ContainsFunc(name, func(char rune) bool { return unicode.IsSpace(char) || char < ' ' || char == '+' })
	if name == "" || spaced || !utf8.ValidString(name) || len(public) != ed25519.PublicKeySize {
		return verifierKey{}, ErrKey
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), append([]byte{algEd25519}, public...)...))
	return verifierKey{name: name, hash: [keyHashSize]byte(sum[:]), public: public}, nil
}

func (k verifierKey) String() string {
	encoded := base64.StdEncoding.EncodeToString(append([]byte{algEd25519}, k.public...))
	return fmt.Sprintf("%s+%08x+%s", k.name, binary.BigEndian.Uint32(k.hash[:]), encoded)
}

// parseVerifierKey reads "name+hash+key". Only the text that String writes is one.
func parseVerifierKey(text string) (verifierKey, error) {
	parts := strings.SplitN(text, "+", 3)
	if len(parts) != 3 {
		return verifierKey{}, fmt.Errorf("%w: %q", ErrKey, text)
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) == 0 || raw[0] != algEd25519 {
		return verifierKey{}, fmt.Errorf("%w: %q", ErrKey, text)
	}
	key, err := newVerifierKey(parts[0], raw[1:])
	if err != nil || key.String() != text {
		return verifierKey{}, fmt.Errorf("%w: %q", ErrKey, text)
	}
	return key, nil
}

// VerifierKey writes a public key in the form of signed notes, as the key of the trail with this
// origin. The only error is [ErrKey].
func VerifierKey(origin string, public ed25519.PublicKey) (string, error) {
	key, err := newVerifierKey(origin, public)
	if err != nil {
		return "", err
	}
	return key.String(), nil
}

// OpenCheckpoint reads a checkpoint that one of these keys signed. Keep its text: a later
// checkpoint can be compared with it by [VerifyConsistency].
//
// Errors: [ErrKey] when one of the keys is not one; [ErrSignature] for a checkpoint of an unknown
// key and a changed one; [ErrCheckpoint] for any other text; [ErrOtherTrail] when a known key
// signed a checkpoint of a trail that it is not the key of.
func OpenCheckpoint(text string, verifierKeys ...string) (Checkpoint, error) {
	known := make([]verifierKey, len(verifierKeys))
	for i, key := range verifierKeys {
		var err error
		if known[i], err = parseVerifierKey(key); err != nil {
			return Checkpoint{}, err
		}
	}
	split := strings.LastIndex(text, "\n\n")
	if split < 0 {
		return Checkpoint{}, fmt.Errorf("%w: it has no signature", ErrCheckpoint)
	}
	body, signed := text[:split+1], text[split+2:]
	name, encoded, spaced := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(signed, signaturePrefix), "\n"), " ")
	// Strict, and compared as a whole: no byte that is not signed can be changed unnoticed either.
	signature, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || !spaced || len(signature) < keyHashSize || signed != signaturePrefix+name+" "+encoded+"\n" {
		return Checkpoint{}, fmt.Errorf("%w: it has not one signature", ErrCheckpoint)
	}
	if !verified(known, name, body, signature) {
		return Checkpoint{}, ErrSignature
	}
	checkpoint, err := readCheckpoint(body)
	if err != nil {
		return Checkpoint{}, err
	}
	if name != checkpoint.Origin {
		return Checkpoint{}, fmt.Errorf("%w: the key of %q signed a checkpoint of %q", ErrOtherTrail, name, checkpoint.Origin)
	}
	return checkpoint, nil
}

// verified reports whether one of the keys made the signature, which begins with the hash of the
// key.
func verified(known []verifierKey, name, body string, signature []byte) bool {
	for _, key := range known {
		if key.name == name && bytes.Equal(key.hash[:], signature[:keyHashSize]) &&
			ed25519.Verify(key.public, []byte(body), signature[keyHashSize:]) {
			return true
		}
	}
	return false
}
