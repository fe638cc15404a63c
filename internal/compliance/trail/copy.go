package trail

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/pkg/trailproof"
)

// Rows come in PostgreSQL's binary format of COPY, which costs neither side much for a row. It is
// read by hand, column by column, in the order of leafColumns.

var errCopy = errors.New("trail: the database sent rows in an unknown format")

// copied reads a copy.
type copied struct {
	data []byte
	bad  bool
}

func (c *copied) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.data) {
		c.bad = true
		return nil
	}
	taken := c.data[:n]
	c.data = c.data[n:]
	return taken
}

func (c *copied) int16() int {
	if raw := c.take(2); raw != nil {
		return int(int16(binary.BigEndian.Uint16(raw)))
	}
	return 0
}

func (c *copied) int32() int {
	if raw := c.take(4); raw != nil {
		return int(int32(binary.BigEndian.Uint32(raw)))
	}
	return 0
}

// field returns the next column, nil for null.
func (c *copied) field() []byte {
	size := c.int32()
	if size < 0 {
		return nil
	}
	return c.take(size)
}

func (c *copied) int64() int64 {
	if raw := c.field(); len(raw) == 8 {
		return int64(binary.BigEndian.Uint64(raw))
	}
	c.bad = true
	return 0
}

func (c *copied) uuid() (one uuid.UUID) {
	if raw := c.field(); len(raw) == len(one) {
		copy(one[:], raw)
		return one
	}
	c.bad = true
	return one
}

func (c *copied) optionalUUID() *uuid.UUID {
	raw := c.field()
	if raw == nil {
		return nil
	}
	if len(raw) != 16 {
		c.bad = true
		return nil
	}
	one := uuid.UUID(raw)
	return &one
}

const copySignature = "PGCOPY\n\xff\r\n\x00"

// readRows appends the leaves with their entries, and makes the hash of each entry. The entries in
// their one form are kept where they are wanted.
func readRows(rows []row, data []byte, whole bool) (_ []row, err error) {
	c := &copied{data: data}
	if string(c.take(len(copySignature))) != copySignature {
		return nil, errCopy
	}
	c.int32() // flags
	c.take(c.int32())
	var leaf []byte
	for !c.bad {
		columns := c.int16()
		if columns == -1 {
			break
		}
		if columns != leafColumnCount {
			return nil, errCopy
		}
		one := row{index: c.int64(), entry: c.uuid(), hashes: c.field()}
		var entry trailproof.Entry
		customer := c.optionalUUID()
		fault := c.entry(&entry)
		if customer == nil {
			one.fault = "there is no such entry any more"
		} else if entry.CustomerID = *customer; fault != "" {
			one.fault = fault
		} else if leaf, err = trailproof.AppendLeaf(leaf[:0], &entry); err != nil {
			one.fault = "the entry is not in a form that was ever sealed"
		} else {
			one.hash = [trailproof.HashSize]byte(trailproof.LeafHash(leaf))
			if whole {
				one.leaf, leaf = leaf, nil
			}
		}
		rows = append(rows, one)
	}
	if c.bad || len(c.data) != 0 {
		return nil, errCopy
	}
	return rows, nil
}

// entry reads the columns of an entry but for the customer, and tells what no entry has.
func (c *copied) entry(e *trailproof.Entry) (fault string) {
	// Without an entry every column is null, which id tells.
	text := func() string { return string(c.field()) }
	id := c.optionalUUID()
	if id != nil {
		e.ID = *id
	}
	e.Source = text()
	if raw := c.field(); raw != nil {
		e.SourceID = new(string(raw))
	}
	e.ActorType = text()
	e.ActorUserID, e.ActorAPIKeyID, e.ActorOperatorCustomerID, e.ActorOperatorID = c.optionalUUID(), c.optionalUUID(), c.optionalUUID(), c.optionalUUID()
	e.Action, e.TargetType, e.TargetID = text(), text(), text()
	changed, details := c.field(), c.field()
	occurred, recorded := c.field(), c.field()
	if id == nil || c.bad {
		return ""
	}
	if e.Changed, fault = readTexts(changed); fault != "" {
		return fault
	}
	if details != nil {
		if len(details) == 0 || details[0] != 1 { // the version of the format of jsonb
			c.bad = true
			return ""
		}
		e.Details = details[1:]
	}
	for _, moment := range []struct {
		raw  []byte
		into *time.Time
	}{{occurred, &e.OccurredAt}, {recorded, &e.RecordedAt}} {
		if len(moment.raw) != 8 {
			return "a time of the entry is missing"
		}
		micros := int64(binary.BigEndian.Uint64(moment.raw))
		if micros == math.MaxInt64 || micros == math.MinInt64 {
			return "a time of the entry is infinite"
		}
		*moment.into = time.UnixMicro(micros + postgresEpoch).UTC()
	}
	return ""
}

// postgresEpoch is 2000-01-01 in microseconds since 1970.
const postgresEpoch = 946_684_800_000_000

// readTexts reads a text[] of one dimension that begins at 1, as all have that are written in the
// usual way.
func readTexts(raw []byte) (texts []string, fault string) {
	const odd = "the names of what changed are not a plain list"
	if raw == nil {
		return nil, odd
	}
	c := &copied{data: raw}
	dimensions := c.int32()
	c.int32() // whether there are nulls
	c.int32() // the type of the elements
	if dimensions == 0 && !c.bad && len(c.data) == 0 {
		return nil, ""
	}
	count, from := c.int32(), c.int32()
	if dimensions != 1 || from != 1 || count < 0 {
		return nil, odd
	}
	for range count {
		element := c.field()
		if element == nil {
			return nil, odd
		}
		texts = append(texts, string(element))
	}
	if c.bad || len(c.data) != 0 {
		return nil, odd
	}
	return texts, ""
}

const leafColumnCount = 19

// leafColumns are what readRows reads.
const leafColumns = `l.leaf_index, l.entry_id, l.hashes, e.customer_id, e.id, e.source, e.source_id, e.actor_type, e.actor_user_id, e.actor_api_key_id,
	e.actor_operator_customer_id, e.actor_operator_id, e.action, e.target_type, e.target_id, e.changed, e.details, e.occurred_at, e.recorded_at`

// leavesQuery finds leaves with their entries.
func leavesQuery(customer string, from, to int64) string {
	return fmt.Sprintf(
		`select `+leafColumns+` from audit_leaves l left join audit_entries e on e.customer_id = l.customer_id and e.id = l.entry_id
		where l.customer_id = '%s' and l.leaf_index >= %d and l.leaf_index < %d order by l.leaf_index`,
		customer,
		from,
		to,
	)
}
