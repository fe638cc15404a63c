// Package blob keeps objects outside the database: what must survive it (the ledger, backups) and
// what is too large for it.
//
// Owns: the store of objects in its two forms, a folder and a bucket of an S3 service; names;
// writing an object whole or not at all.
// Does not own: what the objects hold, their encryption, how long they are kept (the features).
//
// An object is written once and never changed. It is there whole or not at all, and durable when
// Create has returned. Its name is no folder of another's: where there is a/b, there is no a. A
// store is shared by all replicas.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/fusionspim/steward/internal/base/sensitive"
)

// What a caller may want to tell apart. Errors of the store wrap them.
var (
	ErrExists   = errors.New("the object exists")
	ErrNotFound = errors.New("there is no such object")
	ErrUnfit    = errors.New("the store does not do what is asked of it")
)

// Info is what is known of an object without reading it.
type Info struct {
	Name     string
	Size     int64
	Modified time.Time
}

// Store keeps objects. Safe for concurrent use, also from several processes. Memory is bounded
// whatever the size of an object.
type Store interface {
	// Create writes an object of everything that the reader gives. Of several that create the same
	// name at once, one succeeds, and the others get ErrExists. After an error of the network it
	// can be unknown whether the object is there; after an error of the reader it is not.
	Create(ctx context.Context, name string, content io.Reader) error
	// Open reads an object. Error: ErrNotFound.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// Stat looks at an object. Error: ErrNotFound.
	Stat(ctx context.Context, name string) (Info, error)
	// List gives the objects whose names begin with prefix and come after after, in the order of
	// the bytes of their names. It ends with the first error.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]
	// Delete removes an object for good, with every version that a bucket keeps of it. An object
	// that is not there is no error.
	Delete(ctx context.Context, name string) error
	// Tidy removes what writers that died before the moment have left of objects that never came to
	// be, and says how many.
	Tidy(ctx context.Context, before time.Time) (int, error)
}

// Settings say where a store is.
type Settings struct {
	// URL is file:///absolute/folder or s3://bucket/prefix?region=…&endpoint=…. A folder takes
	// sync=off, which gives up durability for speed; a bucket takes insecure=true, which speaks
	// plain HTTP.
	URL string
	// AccessKey and SecretKey are the credentials for a bucket; both empty means the ordinary
	// variables, files and roles of AWS.
	AccessKey string
	SecretKey sensitive.String
}

// Open prepares a store. The folder is made if it is missing; a bucket must be there, which its
// first use finds out.
func Open(settings Settings) (Store, error) {
	location, err := url.Parse(settings.URL)
	if err != nil {
		return nil, errors.New("blob: the URL of the store is none")
	}
	if location.User != nil || location.Fragment != "" {
		return nil, errors.New("blob: the URL of the store takes no user, password or fragment")
	}
	query, err := url.ParseQuery(location.RawQuery)
	if err != nil {
		return nil, errors.New("blob: the query of the store's URL is malformed")
	}
	switch location.Scheme {
	case "file":
		if location.Host != "" || !filepath.IsAbs(location.Path) {
			return nil, errors.New(
				"blob: a folder is named by three slashes and an absolute path, such as file:///var/lib/steward/blobs",
			)
		}
		if err := takesOnly(query, "sync"); err != nil {
			return nil, err
		}
		sync, err := oneOf(query, "sync", "on", "off")
		if err != nil {
			return nil, err
		}
		return openFolder(filepath.Clean(location.Path), sync == "on")
	case "s3":
		if err := takesOnly(query, "region", "endpoint", "insecure"); err != nil {
			return nil, err
		}
		insecure, err := oneOf(query, "insecure", "false", "true")
		if err != nil {
			return nil, err
		}
		return openBucket(bucketSettings{
			bucket:    location.Host,
			prefix:    strings.Trim(location.Path, "/"),
			region:    query.Get("region"),
			endpoint:  query.Get("endpoint"),
			insecure:  insecure == "true",
			accessKey: settings.AccessKey,
			secretKey: settings.SecretKey,
		})
	default:
		return nil, errors.New("blob: the URL of the store must begin with file:/// or s3://")
	}
}

func takesOnly(query url.Values, names ...string) error {
	for name, values := range query {
		known := false
		for _, one := range names {
			known = known || one == name
		}
		if !known || len(values) != 1 {
			return fmt.Errorf("blob: the store's URL takes each of %s once and nothing else", strings.Join(names, ", "))
		}
	}
	return nil
}

// oneOf reads a parameter of the query; the first word is the default.
func oneOf(query url.Values, name string, words ...string) (string, error) {
	if !query.Has(name) {
		return words[0], nil
	}
	for _, word := range words {
		if query.Get(name) == word {
			return word, nil
		}
	}
	return "", fmt.Errorf("blob: %s of the store's URL is %s", name, strings.Join(words, " or "))
}

const longestName = 512

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*$`)

// checkName refuses names that could mean something else to one of the stores: parts of lower-case
// letters, digits, dots, underscores and hyphens, which begin with a letter or a digit, between
// single slashes.
func checkName(name string) error {
	if len(name) > longestName || !nameForm.MatchString(name) || strings.Contains(name, "..") {
		return fmt.Errorf("blob: %q is no name of an object", name)
	}
	return nil
}

// checkPrefix refuses prefixes that no name begins with.
func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if err := checkName(strings.TrimSuffix(prefix, "/")); err != nil {
		return fmt.Errorf("blob: %q begins no name of an object", prefix)
	}
	return nil
}

// Probe makes sure that a store does what is asked of it: that it keeps what is written, does not
// write over it, and removes it. A service that would overwrite in silence is found out here rather
// than after a loss.
func Probe(ctx context.Context, store Store, name string) (err error) {
	const first, second = "first", "second"
	if err := store.Create(ctx, name, strings.NewReader(first)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Delete(context.WithoutCancel(ctx), name)) }()
	if err := store.Create(ctx, name, strings.NewReader(second)); !errors.Is(err, ErrExists) {
		return errors.Join(
			fmt.Errorf(
				"blob: %w: it writes over objects that exist, and must refuse that (for S3: honour If-None-Match)",
				ErrUnfit,
			),
			err,
		)
	}
	reader, err := store.Open(ctx, name)
	if err != nil {
		return err
	}
	content, err := io.ReadAll(io.LimitReader(reader, int64(len(first))+1))
	if err = errors.Join(err, reader.Close()); err != nil {
		return err
	}
	if string(content) != first {
		return fmt.Errorf("blob: %w: it does not give back what was written", ErrUnfit)
	}
	return nil
}

// source reads on behalf of a store and remembers how that ended, so that an error of the reader is
// never taken for its end.
type source struct {
	ctx    context.Context
	reader io.Reader
	failed error
}

// Read implements io.Reader.
func (s *source) Read(into []byte) (int, error) {
	if s.failed != nil {
		return 0, s.failed
	}
	if err := s.ctx.Err(); err != nil {
		s.failed = err
		return 0, err
	}
	n, err := s.reader.Read(into)
	if err != nil && err != io.EOF { //nolint:errorlint // the contract of io.Reader is the value itself
		s.failed = fmt.Errorf("reading what is to be stored: %w", err)
		err = s.failed
	}
	return n, err
}
