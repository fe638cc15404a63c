package trail

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/signingkey"
	"github.com/fusionspim/steward/pkg/trailproof"
)

// An export is NDJSON in one canonical form, so that no byte of it can be altered unnoticed. The
// first line names the trail and holds its checkpoints, the last of which covers everything that
// follows:
//
//	{"format":"steward-audit-trail-1","customer_id":"…","size":2,"verifier_keys":["…"],
//	 "checkpoints":["…"]}
//
// Then follows a line for each entry, by number: the hashes of RFC 6962 that the entry completes
// (its own, and those of the nodes above it, from the bottom up), concatenated in base64, and the
// entry as trailproof.ParseLeaf reads it.
//
//	{"leaf_index":0,"hashes":"...","leaf":{...}}
const exportFormat = "steward-audit-trail-1"

type exportHeader struct {
	Format       string   `json:"format"`
	CustomerID   string   `json:"customer_id"`
	Size         int64    `json:"size"`
	VerifierKeys []string `json:"verifier_keys"`
	Checkpoints  []string `json:"checkpoints"`
}

const (
	longestHeader = 1 << 28
	longestLine   = 1 << 24
)

// Exported is what an export contains.
type Exported struct {
	CustomerID   string   `json:"customer_id"`
	Entries      int64    `json:"entries"`
	VerifierKeys []string `json:"verifier_keys"`
}

// Export writes the trail of a customer as it is now. With the service, it signs a checkpoint for
// the export; without, the export ends at the newest checkpoint. It refuses a trail that was
// altered.
func Export(ctx context.Context, db *postgres.DB, slug string, signing *Service, to io.Writer) (Exported, error) {
	customers, err := chosenCustomers(ctx, db, []string{slug})
	if err != nil {
		return Exported{}, err
	}
	of := customers[0].id
	var keys ring
	if signing != nil {
		keys, err = signing.keyring(ctx)
	} else {
		err = db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
			keys.Keys, err = signingkey.KeysTx(tx, signingkey.Trail)
			return err
		})
	}
	if err != nil {
		return Exported{}, err
	}
	header := exportHeader{
		Format:       exportFormat,
		CustomerID:   of.String(),
		VerifierKeys: []string{},
		Checkpoints:  []string{},
	}
	err = db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
		if signing != nil {
			if _, err := signing.makeTx(tx, keys); err != nil {
				return err
			}
		}
		header.Checkpoints = header.Checkpoints[:0]
		kept, err := allCheckpoints(tx)
		for _, one := range kept {
			header.Checkpoints, header.Size = append(header.Checkpoints, one.note), one.size
		}
		return err
	})
	if err != nil {
		return Exported{}, err
	}
	if len(header.Checkpoints) == 0 {
		return Exported{}, errors.New(
			"there is no checkpoint of the trail yet, and without STEWARD_MASTER_KEY none can be signed",
		)
	}
	last, err := trailproof.ReadCheckpoint(header.Checkpoints[len(header.Checkpoints)-1])
	if err != nil {
		return Exported{}, err
	}
	if header.VerifierKeys, err = keys.verifierKeys(last.Origin); err != nil {
		return Exported{}, err
	}
	line, err := header.line()
	if err != nil {
		return Exported{}, err
	}
	out := bufio.NewWriterSize(to, 1<<18)
	_, _ = out.Write(line) // the writer returns its error from Flush
	err = inOrder(ctx, func(start func(func() ([]byte, error)) bool) error {
		for from := int64(0); from < header.Size; from += chunk {
			if !start(func() ([]byte, error) {
				var some leaves
				if err := some.read(ctx, db, of, from, min(from+chunk, header.Size), true); err != nil {
					return nil, err
				}
				return exportLines(some.rows, from)
			}) {
				break
			}
		}
		return nil
	}, func(lines []byte) error {
		_, err := out.Write(lines)
		return err
	})
	if err != nil {
		return Exported{}, err
	}
	return Exported{CustomerID: header.CustomerID, Entries: header.Size, VerifierKeys: header.VerifierKeys}, out.Flush()
}

func (h exportHeader) line() ([]byte, error) {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(h)
	return line.Bytes(), err
}

// exportLines writes leaves, which must be numbered from a number on.
func exportLines(rows []row, from int64) (lines []byte, err error) {
	for i, one := range rows {
		if one.index != from+int64(i) || one.leaf == nil || len(one.hashes) < trailproof.HashSize ||
			!bytes.Equal(one.hash[:], one.hashes[:trailproof.HashSize]) {
			return nil, fmt.Errorf(
				"the trail is not as it was sealed from leaf %d on: check it with steward audit verify",
				from+int64(i),
			)
		}
		lines = append(exportPrefix(lines, one.index), base64.StdEncoding.EncodeToString(one.hashes)...)
		lines = append(append(append(lines, exportMiddle...), one.leaf...), exportEnd...)
	}
	return lines, nil
}

func exportPrefix(line []byte, index int64) []byte {
	return append(strconv.AppendInt(append(line, `{"leaf_index":`...), index, 10), `,"hashes":"`...)
}

const (
	exportMiddle = `","leaf":`
	exportEnd    = "}\n"
)

// VerifyExport verifies an export: its form, every entry against its hash, every hash of the tree,
// and the checkpoints. It needs no database.
func VerifyExport(ctx context.Context, from io.Reader, check Check) (Report, error) {
	in := bufio.NewReaderSize(from, 1<<18)
	report := Report{OK: true, KeysFrom: KeysGiven, Trails: []TrailReport{}}
	trail := TrailReport{Problems: []Problem{}}
	finish := func() (Report, error) {
		report.add(trail)
		return report, nil
	}
	fail := func(detail string) (Report, error) {
		trail.Problems = append(trail.Problems, Problem{Kind: badExport, Detail: detail})
		return finish()
	}
	header, err := readHeader(in)
	if err != nil {
		return fail("the first line: " + err.Error())
	}
	trail.CustomerID, trail.Checkpoints = header.CustomerID, len(header.Checkpoints)
	keys, err := publicKeys(header.VerifierKeys)
	if err != nil {
		return fail("the first line: " + err.Error())
	}
	if report.KeysFrom = KeysExported; len(check.Keys) > 0 {
		report.KeysFrom = KeysGiven
		if keys, err = publicKeys(check.Keys); err != nil {
			return Report{}, err
		}
	}
	claims, bad, err := exportClaims(header, keys, tidied(check.Checkpoint))
	if err != nil {
		return Report{}, err
	}
	checker := newChecker(claims)
	count := int64(0)
	ended := ""
	err = inOrder(ctx, func(start func(func() ([]row, error)) bool) error {
		for count < header.Size {
			first := count
			lines, read, err := readLines(in, min(chunk, header.Size-first))
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			count += int64(read)
			if read > 0 && !start(func() ([]row, error) { return exportRows(lines, first), nil }) {
				return nil
			}
			if err != nil {
				ended = fmt.Sprintf("the export ends after %d of %d entries", count, header.Size)
				return nil
			}
		}
		if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
			ended = fmt.Sprintf("there is more than the %d entries", header.Size)
		}
		return nil
	}, func(rows []row) error {
		for _, one := range rows {
			checker.add(one)
		}
		return nil
	})
	if err != nil {
		return Report{}, err
	}
	if ended != "" {
		checker.settle(true)
		checker.fail(badExport, nil, ended)
	} else {
		checker.end(header.Size, nil)
	}
	trail.Entries, trail.MoreProblems = checker.next, checker.more
	trail.Problems = append(append(trail.Problems, checker.problems...), bad...)
	return finish()
}

func readHeader(in *bufio.Reader) (header exportHeader, err error) {
	line, err := readLine(in, nil, longestHeader)
	if err != nil {
		return header, errors.New("it is not whole")
	}
	if err := json.Unmarshal(line, &header); err != nil {
		return header, errors.New("it is not JSON")
	}
	if header.Format != exportFormat {
		return header, errors.New("it is not that of an export in the form " + exportFormat)
	}
	if again, err := header.line(); err != nil || !bytes.Equal(again, line) || header.Size < 0 {
		return header, errors.New("it is not in its one form")
	}
	return header, nil
}

// exportClaims opens the checkpoints of an export, the last of which must cover all of it, and the
// given one.
func exportClaims(
	header exportHeader,
	keys []ed25519.PublicKey,
	given string,
) (claims []claim, bad []Problem, err error) {
	size := int64(-1)
	for i, text := range header.Checkpoints {
		opened, err := openWith(keys, text, header.CustomerID)
		if err != nil {
			bad = append(
				bad,
				Problem{Kind: badCheckpoint, Detail: fmt.Sprintf("the checkpoint %d does not count: %v", i+1, err)},
			)
			continue
		}
		size = int64(opened.Size)
		claims = append(
			claims,
			claim{size: opened.Size, root: opened.Root, what: fmt.Sprintf("of %d entries", opened.Size)},
		)
	}
	if size != header.Size {
		bad = append(
			bad,
			Problem{
				Kind:   badCheckpoint,
				Detail: fmt.Sprintf("there is no good checkpoint of all %d entries", header.Size),
			},
		)
	}
	if given != "" {
		opened, err := openWith(keys, given, header.CustomerID)
		if err != nil {
			return nil, nil, fmt.Errorf("the checkpoint that was given does not count: %w", err)
		}
		claims = append(claims, claim{size: opened.Size, root: opened.Root, what: "that was given"})
	}
	return claims, bad, nil
}

// readLine reads a line with its end, up to a maximum length.
func readLine(in *bufio.Reader, line []byte, longest int) ([]byte, error) {
	from := len(line)
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line)-from > longest {
			return nil, errors.New("a line is too long")
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// readLines reads lines and returns their number.
func readLines(in *bufio.Reader, count int64) (lines []byte, read int, err error) {
	lines = make([]byte, 0, int(count)*700)
	for range count {
		whole := len(lines)
		if lines, err = readLine(in, lines, longestLine); err != nil {
			if errors.Is(err, io.EOF) {
				return lines[:whole], read, err
			}
			return nil, 0, err
		}
		read++
	}
	return lines, read, nil
}

// exportRows parses lines of leaves and hashes their entries.
func exportRows(lines []byte, first int64) (rows []row) {
	rows = make([]row, 0, bytes.Count(lines, []byte{'\n'}))
	prefix := make([]byte, 0, 64)
	for index := first; len(lines) > 0; index++ {
		end := bytes.IndexByte(lines, '\n') + 1
		line := lines[:end]
		lines = lines[end:]
		one := row{index: index}
		prefix = exportPrefix(prefix[:0], index)
		rest, begins := bytes.CutPrefix(line, prefix)
		rest, ends := bytes.CutSuffix(rest, []byte(exportEnd))
		text, leaf, parts := bytes.Cut(rest, []byte(exportMiddle))
		hashes, err := base64.StdEncoding.Strict().DecodeString(string(text))
		if !begins || !ends || !parts || err != nil || len(hashes) < trailproof.HashSize ||
			base64.StdEncoding.EncodedLen(len(hashes)) != len(text) {
			one.fault = "the line is not in the form of an export"
			rows = append(rows, one)
			continue
		}
		one.hashes, one.hash = hashes, [trailproof.HashSize]byte(trailproof.LeafHash(leaf))
		if !bytes.Equal(one.hash[:], hashes[:trailproof.HashSize]) {
			one.entry = namedIn(leaf)
		}
		rows = append(rows, one)
	}
	return rows
}

// namedIn returns the id of the entry in a leaf that may be malformed.
func namedIn(leaf []byte) uuid.UUID {
	var named struct{ ID uuid.UUID }
	if json.Unmarshal(leaf, &named) != nil {
		return uuid.Nil
	}
	return named.ID
}
