package password

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Parameters of Argon2id: the cost of a guess.
type Parameters struct {
	MemoryKiB  uint32 // KiB of memory
	Iterations uint32 // passes over it
	// Parallelism is the number of lanes, each a goroutine; one leaves the cores to other callers.
	Parallelism uint8
}

// DefaultParameters are 46 MiB and one pass: the first line of the OWASP Password Storage Cheat
// Sheet, 0.03 to 0.1 seconds on a core.
func DefaultParameters() Parameters {
	return Parameters{MemoryKiB: 46 * 1024, Iterations: 1, Parallelism: 1}
}

// ErrParameters is returned by Validate.
var ErrParameters = errors.New("password: the Argon2id parameters are too weak or too costly")

// Limits for settings and for stored hashes: a hash that an attacker wrote into the database must
// not cost gigabytes or minutes.
const (
	maxMemoryKiB   = 256 * 1024
	maxIterations  = 10
	maxParallelism = 8
)

// Validate returns ErrParameters for less than one of the equivalent minima of the OWASP Password
// Storage Cheat Sheet (46 MiB in one pass, 19 MiB in two, 12 in three, 9 in four, 7 in five) and
// for more than 256 MiB, ten passes or eight lanes.
func (p Parameters) Validate() error {
	if !p.bounded() || p.MemoryKiB < floor(p.Iterations) {
		return fmt.Errorf("%w: m=%d,t=%d,p=%d", ErrParameters, p.MemoryKiB, p.Iterations, p.Parallelism)
	}
	return nil
}

// floor is the minimum memory for a number of passes, in KiB.
func floor(iterations uint32) uint32 {
	switch iterations {
	case 0:
		return math.MaxUint32
	case 1:
		return 46 * 1024
	case 2:
		return 19 * 1024
	case 3:
		return 12 * 1024
	case 4:
		return 9 * 1024
	default:
		return 7 * 1024
	}
}

// bounded reports whether Argon2id is defined for the parameters (RFC 9106, section 3.1) and they
// are within the limits.
func (p Parameters) bounded() bool {
	return p.Parallelism >= 1 && p.Parallelism <= maxParallelism && p.Iterations >= 1 && p.Iterations <= maxIterations &&
		p.MemoryKiB >= 8*uint32(p.Parallelism) &&
		p.MemoryKiB <= maxMemoryKiB
}

// phc is a stored hash.
//
// Its text is the PHC string format (https://github.com/P-H-C/phc-string-format), which other
// programs read and write too: $argon2id$v=19$m=47104,t=1,p=1$<salt>$<key>, both in standard base64
// without padding.
type phc struct {
	parameters Parameters
	salt       []byte
	key        []byte
}

const (
	saltSize = 16 // bytes, of new hashes
	keySize  = 32 // bytes, of new hashes

	// Of stored hashes, which may come from another program.
	minSaltSize, maxSaltSize = 8, 64
	minKeySize, maxKeySize   = 16, 64
	maxEncoded               = 256 // bytes
)

// ErrEncoded is returned for a stored text that Hash has not made. It holds nothing of the text.
var ErrEncoded = errors.New("password: the stored text is not an Argon2id hash in its canonical form")

func (h phc) encode() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		h.parameters.MemoryKiB, h.parameters.Iterations, h.parameters.Parallelism,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.key))
}

// decode parses the canonical text: the result must encode to the same text, so that leading zeros,
// signs, line breaks, left-over bits and another order are all refused without a rule for each.
func decode(text string) (phc, error) {
	if len(text) > maxEncoded {
		return phc{}, ErrEncoded
	}
	parts := strings.Split(text, "$")
	if len(parts) != 6 {
		return phc{}, ErrEncoded
	}
	numbers := strings.Split(parts[3], ",")
	if len(numbers) != 3 {
		return phc{}, ErrEncoded
	}
	memory, memoryErr := number(numbers[0], "m=", 32)
	iterations, iterationsErr := number(numbers[1], "t=", 32)
	parallelism, parallelismErr := number(numbers[2], "p=", 8)
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	key, keyErr := base64.RawStdEncoding.DecodeString(parts[5])
	if errors.Join(memoryErr, iterationsErr, parallelismErr, saltErr, keyErr) != nil {
		return phc{}, ErrEncoded // the causes quote the text
	}
	read := phc{
		parameters: Parameters{
			MemoryKiB:   uint32(memory),
			Iterations:  uint32(iterations),
			Parallelism: uint8(parallelism),
		},
		salt: salt,
		key:  key,
	}
	if !read.parameters.bounded() || len(salt) < minSaltSize || len(salt) > maxSaltSize ||
		len(key) < minKeySize || len(key) > maxKeySize || read.encode() != text {
		return phc{}, ErrEncoded
	}
	return read, nil
}

func number(text, name string, bits int) (uint64, error) {
	return strconv.ParseUint(strings.TrimPrefix(text, name), 10, bits)
}
