package backup

import (
	"context"
	"slices"
	"strings"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Compare compares the catalogue with what lies in the store, updates the catalogue, and returns
// the differences, sorted by object. A backup that only the store has is added to the catalogue: a
// restored catalogue lacks what was made since.
func (s *Service) Compare(ctx context.Context) ([]Difference, error) {
	differences := []Difference{}
	if s.vault.Store == nil {
		return differences, nil
	}
	// The catalogue is read before the store: a backup that is made meanwhile is in neither, or its
	// row says that it is being made.
	rows, err := postgres.Platform(ctx, s.db, listExisting)
	if err != nil {
		return nil, err
	}
	stored, foreign, err := s.vault.scan(ctx)
	if err != nil {
		return nil, err
	}
	add := func(d *Difference) {
		if d != nil {
			differences = append(differences, *d)
		}
	}
	for _, name := range foreign {
		add(&Difference{ObjectUnknown, name})
	}
	for _, b := range rows {
		difference, err := s.compareRow(ctx, b, stored[b.ID])
		if err != nil {
			return nil, err
		}
		add(difference)
		delete(stored, b.ID)
	}
	for backup, objects := range stored {
		difference, err := s.compareUncatalogued(ctx, backup, objects)
		if err != nil {
			return nil, err
		}
		add(difference)
	}
	slices.SortFunc(differences, func(a, b Difference) int { return strings.Compare(a.Object, b.Object) })
	for _, d := range differences {
		s.log.ErrorContext(ctx, "the store of backups differs from the catalogue",
			"kind", string(d.Kind), "object", d.Object)
	}
	s.mu.Lock()
	s.differences = differences
	s.mu.Unlock()
	return differences, nil
}

// compareRow compares a backup of the catalogue with its objects, and updates its state.
func (s *Service) compareRow(ctx context.Context, b Backup, stored objects) (*Difference, error) {
	if b.State == Creating && !stored.entry {
		return nil, nil // being made
	}
	after, difference := s.assess(ctx, b, stored)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if after.State == b.State || after.State == Available && b.State == Creating {
		// the latter has its entry: it is about to become available, or is abandoned
		return difference, nil
	}
	err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		if after.State == Available {
			return upsert(tx, after)
		}
		return setState(tx, b.ID, after.State, b.State)
	})
	return difference, err
}

// assess returns a backup of the catalogue with the state that follows from its objects, and what
// is wrong with them.
func (s *Service) assess(ctx context.Context, b Backup, stored objects) (after Backup, difference *Difference) {
	expired := !b.ExpiresAt.After(s.db.Now().Add(lead))
	after = b
	switch {
	case stored.size == nil && !stored.entry && expired:
		after.State = Expired // a restored catalogue has backups that have expired since
		return after, nil
	case stored.size == nil:
		after.State = Missing
		return after, &Difference{ObjectMissing, dataName(b.ID)}
	case !stored.entry:
		after.State = Missing
		return after, &Difference{ObjectMissing, entryName(b.ID)}
	}
	entry, err := s.vault.Get(ctx, b.ID)
	switch {
	case err != nil:
		after.State = Damaged
		return after, &Difference{ObjectDamaged, entryName(b.ID)}
	case *stored.size != *entry.Size || b.Size != nil && *stored.size != *b.Size:
		after.State = Damaged
		return after, &Difference{ObjectDamaged, dataName(b.ID)}
	}
	return entry, nil
}

// compareUncatalogued compares the objects of a backup that was not in the catalogue, and adds it
// to the catalogue if it is complete.
func (s *Service) compareUncatalogued(ctx context.Context, backup id.Backup, stored objects) (*Difference, error) {
	if !stored.entry {
		if s.isMade(ctx, backup) {
			return nil, nil
		}
		return &Difference{ObjectUnknown, dataName(backup)}, nil
	}
	b, err := s.vault.Get(ctx, backup)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return &Difference{ObjectDamaged, entryName(backup)}, nil
	case stored.size == nil:
		return &Difference{ObjectMissing, dataName(backup)}, nil
	case s.isMade(ctx, backup):
		return nil, nil
	}
	if err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return upsert(tx, b) }); err != nil {
		return nil, err
	}
	s.log.WarnContext(ctx, "a backup that was only in the store was added to the catalogue", "backup", backup)
	return nil, nil
}

// isMade reports whether a backup has been added to the catalogue since it was read, and is being
// made or available.
func (s *Service) isMade(ctx context.Context, backup id.Backup) bool {
	b, err := s.Get(ctx, backup)
	return err == nil && (b.State == Creating || b.State == Available)
}
