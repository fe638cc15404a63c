package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/seal"
)

func newBox(t testing.TB, first byte) *seal.Box {
	t.Helper()
	key := make([]byte, seal.MasterKeySize)
	for i := range key {
		key[i] = first + byte(i)
	}
	box, err := seal.New(key)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func newStore(t testing.TB) blob.Store {
	t.Helper()
	store, err := blob.Open(blob.Settings{URL: "file://" + t.TempDir() + "?sync=off"})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// open opens a ledger as a replica does after finding its end.
func open(t testing.TB, store blob.Store) *Ledger {
	t.Helper()
	l := New(store, newBox(t, 1), clock.System(), slog.New(slog.DiscardHandler))
	t.Cleanup(l.Close)
	if err := l.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, head, err := readGenesis(t.Context(), store, l.box)
	if err != nil {
		t.Fatal(err)
	}
	for segment, err := range segmentsAfter(t.Context(), store, l.box, head) {
		if err != nil {
			t.Fatal(err)
		}
		head = segment.end()
	}
	l.advanceHead(head)
	return l
}

func entry(kind Kind) Entry {
	return Entry{
		Kind:     kind,
		At:       time.Date(2026, time.March, 1, 12, 0, 0, 1000, time.UTC),
		Customer: id.New[id.Customer](),
		Subject:  id.New[id.User]().UUID,
	}
}

// readAll reads a whole ledger, which must be valid.
func readAll(t testing.TB, store blob.Store) (entries []Entry) {
	t.Helper()
	box := newBox(t, 1)
	_, head, err := readGenesis(t.Context(), store, box)
	if err != nil {
		t.Fatal(err)
	}
	for segment, err := range segmentsAfter(t.Context(), store, box, head) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, segment.entries...)
	}
	return entries
}

func TestReplicasAppendToOneChain(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	replicas := []*Ledger{open(t, store), open(t, store), open(t, store)}
	const writers, each = 8, 25
	var mu sync.Mutex
	placed := make(map[int64]uuid.UUID)
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			for range each {
				pair := []Entry{entry(Correction), entry(Correction)}
				positions, err := replicas[i%len(replicas)].Append(t.Context(), pair...)
				if err != nil {
					t.Error(err)
					return
				}
				if positions[1].Number != positions[0].Number+1 {
					t.Errorf("entries of one append are at %d and %d", positions[0].Number, positions[1].Number)
				}
				mu.Lock()
				placed[positions[0].Number], placed[positions[1].Number] = pair[0].Subject, pair[1].Subject
				mu.Unlock()
			}
		})
	}
	group.Wait()
	all := readAll(t, store)
	if len(all) != writers*each*2 || len(placed) != len(all) {
		t.Fatalf("%d entries and %d positions", len(all), len(placed))
	}
	for _, entry := range all {
		if placed[entry.Number] != entry.Subject {
			t.Errorf("entry %d is not the one that was appended there", entry.Number)
		}
	}
}

func TestConcurrentAppendsShareObjects(t *testing.T) {
	t.Parallel()
	slow := &faulty{Store: newStore(t)}
	l := open(t, slow)
	release, entered := make(chan struct{}), make(chan struct{}, 1)
	slow.before = func(string) error {
		select {
		case entered <- struct{}{}:
		default:
		}
		<-release
		return nil
	}
	var group sync.WaitGroup
	appending := func() {
		group.Go(func() {
			if _, err := l.Append(t.Context(), entry(Correction)); err != nil {
				t.Error(err)
			}
		})
	}
	appending()
	<-entered // the first is being written alone, so all others queue up
	for range 199 {
		appending()
	}
	for len(l.queue) < 150 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	group.Wait()
	if created := slow.created.Load(); created > 20 {
		t.Errorf("200 concurrent appends wrote %d objects", created)
	}
}

// faulty is a store with injected failures.
type faulty struct {
	blob.Store
	before  func(name string) error // runs before the write
	after   func(name string) error // runs after the write
	created atomic.Int64
}

func (f *faulty) Create(ctx context.Context, name string, content io.Reader) error {
	if f.before != nil {
		if err := f.before(name); err != nil {
			return err
		}
	}
	err := f.Store.Create(ctx, name, content)
	if err == nil {
		f.created.Add(1)
		if f.after != nil {
			err = f.after(name)
		}
	}
	return err
}

// The store reports an error although it has written: the entries exist once, and the append
// succeeds.
func TestWriteWithLostReplyIsRecognised(t *testing.T) {
	t.Parallel()
	store := &faulty{Store: newStore(t)}
	l := open(t, store)
	failures := 0
	store.after = func(string) error {
		if failures++; failures%2 == 1 {
			return errors.New("the connection was lost")
		}
		return nil
	}
	for i := range 6 {
		positions, err := l.Append(t.Context(), entry(Redaction))
		if err != nil || positions[0].Number != int64(i+1) {
			t.Fatalf("append %d: %v %v", i, positions, err)
		}
	}
	if all := readAll(t, store); len(all) != 6 {
		t.Errorf("%d entries", len(all))
	}
}

func TestAppendFailsWhileTheStoreHangs(t *testing.T) {
	t.Parallel()
	store := &faulty{Store: newStore(t)}
	l := open(t, store)
	release := make(chan struct{})
	store.before = func(string) error { <-release; return nil }
	began := time.Now()
	if _, err := l.Append(t.Context(), entry(Redaction)); !fault.Is(err, fault.ServiceUnavailable) {
		t.Fatalf("got %v", err)
	}
	if waited := time.Since(began); waited < appendTimeout {
		t.Errorf("waited for %v", waited)
	}
	for !l.stuck.Load() {
		time.Sleep(time.Millisecond)
	}
	if _, err := l.Append(t.Context(), entry(Deletion)); !fault.Is(err, fault.ServiceUnavailable) {
		t.Errorf("append after one that hangs: %v", err)
	}
	close(release)
	for l.stuck.Load() || l.Head().Number == 0 {
		time.Sleep(time.Millisecond)
	}
	positions, err := l.Append(t.Context(), entry(AlertsSet))
	if err != nil || positions[0].Number != 2 {
		t.Fatalf("append after the store recovered: %v %v", positions, err)
	}
	if all := readAll(t, store); all[0].Kind != Redaction {
		t.Errorf("the first entry is %v, want the one that hung", all[0])
	}
}

func TestAppendLaterIsWritten(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	l := open(t, store)
	l.AppendLater(entry(Void))
	if positions, err := l.Append(t.Context(), entry(Correction)); err != nil || positions[0].Number != 1 {
		t.Fatalf("%v %v", positions, err)
	}
	l.AppendLater(entry(Void))
	l.Close() // and again at the end of the test
	if all := readAll(t, store); len(all) != 3 {
		t.Errorf("%d entries", len(all))
	}
}

func TestPersonalDataIsRefused(t *testing.T) {
	t.Parallel()
	l := open(t, newStore(t))
	for name, spoil := range map[string]func(*Entry){
		"kind":      func(e *Entry) { e.Kind = "noor.haddad" },
		"label":     func(e *Entry) { e.Label = "Noor Haddad" },
		"reason":    func(e *Entry) { e.Reason = "Noor asked" },
		"authority": func(e *Entry) { e.Authority = "noor@acme.example" },
		"role":      func(e *Entry) { e.Role = "Ünal" },
		"status":    func(e *Entry) { e.Status = strings.Repeat("a", 40) },
	} {
		bad := entry(Redaction)
		spoil(&bad)
		if _, err := l.Append(t.Context(), bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Verify detects a change of any byte of any object, and names its segment.
func TestEveryChangedByteIsDetected(t *testing.T) {
	t.Parallel()
	source := newStore(t)
	l := open(t, source)
	receipt, yes := id.New[id.Receipt](), true
	first := entry(Redaction)
	first.Receipt, first.Label, first.Reason, first.Authority = &receipt, "Redacted user 7K3Q", "other", "customer"
	second := entry(AlertsSet)
	second.OptedIn = &yes
	for _, batch := range [][]Entry{{first, second}, {entry(Deletion)}, {entry(Correction), entry(APIKeyRevoked)}} {
		if _, err := l.Append(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{genesisName, segmentName(1), segmentName(3), segmentName(4)}
	objects := make(map[string][]byte)
	for _, name := range names {
		content, err := readObject(t.Context(), source, name)
		if err != nil {
			t.Fatal(err)
		}
		objects[name] = content
	}
	box := newBox(t, 1)
	check := func(changed string, content []byte) (Check, error) {
		store := memory{}
		for name, original := range objects {
			store[name] = original
		}
		store[changed] = content
		return Verify(t.Context(), store, box)
	}
	if found, err := check("", nil); err != nil || found.Fault != nil || found.Entries != 5 || found.Segments != 3 {
		t.Fatalf("unaltered: %+v %v", found, err)
	}
	for i, name := range names {
		for at := range objects[name] {
			for _, bit := range []byte{1, 0x20, 0x80} {
				content := bytes.Clone(objects[name])
				content[at] ^= bit
				found, err := check(name, content)
				if i == 0 {
					if !errors.Is(err, errGenesis) {
						t.Fatalf("byte %d of %s: %+v %v", at, name, found, err)
					}
					continue
				}
				if err != nil || found.Fault == nil {
					t.Fatalf("byte %d of %s changed by %x: %+v %v", at, name, bit, found, err)
				}
				here, _ := segmentNumber(name)
				if found.Fault.Segment != here {
					t.Fatalf("byte %d of %s: reported is %v", at, name, found.Fault)
				}
			}
		}
		for _, shorter := range []int{0, 1, len(objects[name]) / 2, len(objects[name]) - 1} {
			if found, err := check(name, objects[name][:shorter]); err == nil && found.Fault == nil {
				t.Errorf("%s cut to %d bytes passes", name, shorter)
			}
		}
	}
	// A missing segment is named, unless it is the last: that one is noticed by the database.
	store := memory{}
	for name, content := range objects {
		if name != segmentName(3) {
			store[name] = content
		}
	}
	if found, err := Verify(t.Context(), store, box); err != nil || found.Fault == nil || found.Fault.Segment != 3 {
		t.Errorf("without a segment: %+v %v", found, err)
	}
	// A ledger that was forged without the master key.
	if _, err := Verify(t.Context(), source, newBox(t, 9)); !errors.Is(err, errGenesis) {
		t.Errorf("with another key: %v", err)
	}
	if found, err := Verify(t.Context(), source, nil); err != nil || found.Fault != nil {
		t.Errorf("without a key: %+v %v", found, err)
	}
}

// memory is a read-only store of given objects.
type memory map[string][]byte

func (m memory) Create(context.Context, string, io.Reader) error { return errors.New("not here") }
func (m memory) Open(_ context.Context, name string) (io.ReadCloser, error) {
	content, ok := m[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, blob.ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}
func (m memory) Stat(context.Context, string) (blob.Info, error) {
	return blob.Info{}, blob.ErrNotFound
}
func (m memory) Delete(context.Context, string) error         { return nil }
func (m memory) Tidy(context.Context, time.Time) (int, error) { return 0, nil }
func (m memory) List(_ context.Context, prefix, after string) iter.Seq2[blob.Info, error] {
	var names []string
	for name := range m {
		if strings.HasPrefix(name, prefix) && name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return func(yield func(blob.Info, error) bool) {
		for _, name := range names {
			if !yield(blob.Info{Name: name}, nil) {
				return
			}
		}
	}
}
