package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"

	"github.com/fusionspim/steward/internal/base/sensitive"
)

// stores are the stores that every test of the contract runs on.
func stores() map[string]func(t *testing.T) Store {
	return map[string]func(t *testing.T) Store{
		"folder": func(t *testing.T) Store { return open(t, "file://"+t.TempDir()) },
		"folder without sync": func(t *testing.T) Store {
			return open(t, "file://"+filepath.Join(t.TempDir(), "not", "there")+"?sync=off")
		},
		"folder that has no files without names": func(t *testing.T) Store {
			store := open(t, "file://"+t.TempDir())
			store.(*folder).nameless = func(string) (*os.File, naming, error) { return nil, naming{}, errors.ErrUnsupported }
			return store
		},
		"bucket": func(t *testing.T) Store { return openS3(t, serveS3(t, false), "") },
		"bucket with a prefix": func(t *testing.T) Store {
			return openS3(t, serveS3(t, false), "some/where")
		},
		"bucket with versions": func(t *testing.T) Store { return openS3(t, serveS3(t, true), "") },
	}
}

func everyStore(t *testing.T, test func(t *testing.T, store Store)) {
	t.Helper()
	for name, make := range stores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, make(t))
		})
	}
}

func open(t *testing.T, url string) Store {
	t.Helper()
	store, err := Open(Settings{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func openS3(t *testing.T, server *s3Server, prefix string) Store {
	t.Helper()
	store, err := Open(Settings{
		URL:       "s3://steward/" + prefix + "?insecure=true&region=eu-west-2&endpoint=" + url.QueryEscape(strings.TrimPrefix(server.URL, "http://")),
		AccessKey: "key", SecretKey: sensitive.New("secret"),
	})
	if err != nil {
		t.Fatal(err)
	}
	store.(*bucket).part = smallPart
	return store
}

// smallPart makes an upload in parts of what is not large.
const smallPart = 5 << 20

// s3Server is an S3 service within the test. Beneath it is one that somebody else wrote; what that
// one lacks, a condition on the completion of an upload in parts, is put before it, as Amazon
// describes it.
type s3Server struct {
	*httptest.Server
	backend   gofakes3.Backend
	loseReply atomic.Int32 // how many answers to writes are lost on the way
}

func serveS3(t *testing.T, versions bool) *s3Server {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("steward"); err != nil {
		t.Fatal(err)
	}
	if versions {
		if err := backend.SetVersioningConfiguration("steward", gofakes3.VersioningConfiguration{Status: gofakes3.VersioningEnabled}); err != nil {
			t.Fatal(err)
		}
	}
	service := gofakes3.New(backend).Server()
	var one sync.Mutex
	server := &s3Server{backend: backend}
	server.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == "*" {
			one.Lock()
			defer one.Unlock()
			key := strings.TrimPrefix(r.URL.Path, "/steward/")
			if _, err := backend.HeadObject("steward", key); err == nil {
				w.WriteHeader(http.StatusPreconditionFailed)
				_, _ = io.WriteString(w, "<Error><Code>PreconditionFailed</Code></Error>")
				return
			}
			r.Header.Del("If-None-Match")
			if server.loseReply.Add(-1) >= 0 {
				service.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
		}
		service.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

func create(t *testing.T, store Store, name, content string) {
	t.Helper()
	if err := store.Create(t.Context(), name, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, store Store, name string) string {
	t.Helper()
	reader, err := store.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(reader)
	if err := errors.Join(err, reader.Close()); err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func list(t *testing.T, store Store, prefix, after string) (names []string) {
	t.Helper()
	for info, err := range store.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

func TestAnObjectIsWrittenOnce(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, store Store) {
		create(t, store, "a/b.json", "one")
		if err := store.Create(t.Context(), "a/b.json", strings.NewReader("two")); !errors.Is(err, ErrExists) {
			t.Errorf("a second object of the name: %v", err)
		}
		if got := read(t, store, "a/b.json"); got != "one" {
			t.Errorf("read %q", got)
		}
		info, err := store.Stat(t.Context(), "a/b.json")
		if err != nil || info.Name != "a/b.json" || info.Size != 3 || time.Since(info.Modified).Abs() > time.Hour {
			t.Errorf("%+v, %v", info, err)
		}
		create(t, store, "empty", "")
		if got := read(t, store, "empty"); got != "" {
			t.Errorf("read %q", got)
		}
		if err := Probe(t.Context(), store, "probe"); err != nil {
			t.Error(err)
		}
	})
}

func TestOfManyWritersOneSucceeds(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, store Store) {
		const writers = 8
		var won atomic.Int32
		var winner atomic.Value
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() {
				content := fmt.Sprint("writer ", i)
				switch err := store.Create(t.Context(), "one", strings.NewReader(content)); {
				case err == nil:
					won.Add(1)
					winner.Store(content)
				case !errors.Is(err, ErrExists):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d succeeded", won.Load())
		}
		if got := read(t, store, "one"); got != winner.Load() {
			t.Errorf("%q is there, %q succeeded", got, winner.Load())
		}
	})
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, store Store) {
		create(t, store, "file", "x")
		for _, name := range []string{"nothing", "no/folder", "file/below"} {
			if _, err := store.Open(t.Context(), name); !errors.Is(err, ErrNotFound) {
				t.Errorf("Open(%s): %v", name, err)
			}
			if _, err := store.Stat(t.Context(), name); !errors.Is(err, ErrNotFound) {
				t.Errorf("Stat(%s): %v", name, err)
			}
			if err := store.Delete(t.Context(), name); err != nil {
				t.Errorf("Delete(%s): %v", name, err)
			}
		}
		if got := list(t, store, "no/", ""); len(got) != 0 {
			t.Errorf("listed %v", got)
		}
	})
}

func TestADeletedObjectIsGone(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, store Store) {
		create(t, store, "a", "x")
		create(t, store, "a.b", "stays")
		if err := store.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Open(t.Context(), "a"); !errors.Is(err, ErrNotFound) {
			t.Errorf("after the end: %v", err)
		}
		if got := list(t, store, "", ""); !slices.Equal(got, []string{"a.b"}) {
			t.Errorf("listed %v", got)
		}
		create(t, store, "a", "again")
	})
}

func TestABucketKeepsNoVersionOfADeletedObject(t *testing.T) {
	t.Parallel()
	server := serveS3(t, true)
	store := openS3(t, server, "")
	for range 3 {
		create(t, store, "a", "x")
		if err := store.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	versions, err := server.backend.(gofakes3.VersionedBackend).ListBucketVersions("steward", nil, nil)
	if err != nil || len(versions.Versions) != 0 {
		t.Errorf("%v, %v", versions, err)
	}
}

func TestListIsInTheOrderOfNames(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, store Store) {
		// The separators are where a walk of folders and an order of bytes differ.
		names := []string{"a-b", "a.b", "a/b-c", "a/b.c", "a/b/c", "a/b0/d", "a/c", "a0", "a_", "b/a", "c", "z/y/x/w"}
		for _, i := range rand.Perm(len(names)) {
			create(t, store, names[i], "x")
		}
		if got := list(t, store, "", ""); !slices.Equal(got, names) {
			t.Fatalf("%v, want %v", got, names)
		}
		for _, prefix := range []string{"", "a", "a/", "a/b", "z/y", "z/y/", "none"} {
			for _, after := range append([]string{"", "a/", "zz"}, names...) {
				var want []string
				for _, name := range names {
					if strings.HasPrefix(name, prefix) && name > after {
						want = append(want, name)
					}
				}
				if got := list(t, store, prefix, after); !slices.Equal(got, want) {
					t.Errorf("prefix %q after %q: %v, want %v", prefix, after, got, want)
				}
			}
		}
		for range store.List(t.Context(), "", "") {
			break // a receiver that wants no more
		}
	})
}

func TestNamesThatAreNone(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, store Store) {
		for _, name := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a..b", ".a", "a/.b", "A", "ä", "a b", "a\x00b", "a\\b", "a?b", "a\n", strings.Repeat("a", 513)} {
			if err := store.Create(t.Context(), name, strings.NewReader("x")); err == nil {
				t.Errorf("Create(%q) is taken", name)
			}
			if _, err := store.Open(t.Context(), name); err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("Open(%q): %v", name, err)
			}
			if err := store.Delete(t.Context(), name); err == nil {
				t.Errorf("Delete(%q) is taken", name)
			}
		}
		if got := list(t, store, "", ""); len(got) != 0 {
			t.Errorf("there are %v", got)
		}
	})
}

// pattern gives n bytes that no two positions share a long run of.
func pattern(n int64) io.Reader {
	var seed [32]byte
	return io.LimitReader(rand.NewChaCha8(seed), n)
}

func TestWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, store Store) {
		broken := errors.New("broken")
		for _, size := range []int64{0, 10, smallPart, smallPart + 10} {
			for _, failure := range []error{broken, io.ErrUnexpectedEOF} {
				err := store.Create(t.Context(), "a/b", io.MultiReader(pattern(size), iotest.ErrReader(failure)))
				if !errors.Is(err, failure) {
					t.Errorf("after %d bytes: %v", size, err)
				}
				if _, err := store.Stat(t.Context(), "a/b"); !errors.Is(err, ErrNotFound) {
					t.Errorf("after %d bytes there is something: %v", size, err)
				}
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		reader := io.MultiReader(pattern(10), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }), pattern(10))
		if err := store.Create(ctx, "a/b", reader); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller who left: %v", err)
		}
		if got := list(t, store, "", ""); len(got) != 0 {
			t.Errorf("there are %v", got)
		}
		if left, err := store.Tidy(t.Context(), time.Now().Add(time.Hour)); err != nil || left != 0 {
			t.Errorf("%d pieces were left behind, %v", left, err)
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(into []byte) (int, error) { return f(into) }

func TestLargeObjects(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, store Store) {
		for i, size := range []int64{smallPart - 1, smallPart, 2*smallPart + 17} {
			name := fmt.Sprint("large/", i)
			if err := store.Create(t.Context(), name, iotest.HalfReader(pattern(size))); err != nil {
				t.Fatal(err)
			}
			if err := store.Create(t.Context(), name, pattern(size)); !errors.Is(err, ErrExists) {
				t.Errorf("again: %v", err)
			}
			reader, err := store.Open(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			got, want := sha256.New(), sha256.New()
			n, err := io.Copy(got, reader)
			_, _ = io.Copy(want, pattern(size))
			if err := errors.Join(err, reader.Close()); err != nil || n != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
				t.Errorf("%d bytes of %d came back, %v", n, size, err)
			}
			if err := store.Delete(t.Context(), name); err != nil {
				t.Error(err)
			}
		}
		if left, err := store.Tidy(t.Context(), time.Now().Add(time.Hour)); err != nil || left != 0 {
			t.Errorf("%d pieces were left behind, %v", left, err)
		}
	})
}

func TestAnAnswerThatIsLostIsNoConflict(t *testing.T) {
	t.Parallel()
	server := serveS3(t, false)
	store := openS3(t, server, "")
	server.loseReply.Store(1)
	create(t, store, "a", "mine")
	server.loseReply.Store(0)
	if err := store.Create(t.Context(), "a", strings.NewReader("mine")); !errors.Is(err, ErrExists) {
		t.Errorf("another writer: %v", err)
	}
}

func TestAStoreThatOverwritesIsFoundOut(t *testing.T) {
	t.Parallel()
	backend := s3mem.New()
	if err := backend.CreateBucket("steward"); err != nil {
		t.Fatal(err)
	}
	service := gofakes3.New(backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("If-None-Match")
		service.ServeHTTP(w, r)
	}))
	defer server.Close()
	if err := Probe(t.Context(), openS3(t, &s3Server{Server: server}, ""), "probe"); err == nil || !strings.Contains(err.Error(), "If-None-Match") {
		t.Errorf("%v", err)
	}
}

func TestTidyRemovesWhatDeadWritersLeft(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	store := open(t, "file://"+root)
	left := filepath.Join(root, partial, "left")
	if err := os.WriteFile(left, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if removed, err := store.Tidy(t.Context(), time.Now().Add(-time.Hour)); err != nil || removed != 0 {
		t.Errorf("of writers that live: %d, %v", removed, err)
	}
	if removed, err := store.Tidy(t.Context(), time.Now().Add(time.Hour)); err != nil || removed != 1 {
		t.Errorf("%d, %v", removed, err)
	}

	server := serveS3(t, false)
	bucket := openS3(t, server, "here").(*bucket)
	for range 3 {
		if _, err := bucket.client.NewMultipartUpload(t.Context(), "steward", "here/x", minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if removed, err := bucket.Tidy(t.Context(), time.Now().Add(time.Hour)); err != nil || removed != 3 {
		t.Errorf("%d, %v", removed, err)
	}
}

func TestAFolderIsPrivate(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "blobs")
	store := open(t, "file://"+root)
	create(t, store, "a/b/c", "x")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// What somebody else has put there is no object.
	if err := os.Symlink("/etc/passwd", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "Other"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), "link"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a link: %v", err)
	}
	if got := list(t, store, "", ""); !slices.Equal(got, []string{"a/b/c"}) {
		t.Errorf("listed %v", got)
	}
}

func TestURLsOfStores(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "x", "file://relative/x", "file:relative", "http://x/", "file:///x?sync=maybe", "file:///x?sync=on&sync=off", "file:///x?region=a", "s3://", "s3:///x", "s3://b?x=y",
		"s3://b?insecure=1", "s3://b?endpoint=http://x", "s3://user:password@b/", "s3://b/../x", "s3://b/UPPER", "s3://b#x", "file:///x?%zz",
	} {
		if _, err := Open(Settings{URL: url}); err == nil {
			t.Errorf("%q is taken", url)
		} else if strings.Contains(err.Error(), "password@") {
			t.Errorf("the error repeats the URL: %v", err)
		}
	}
	if _, err := Open(Settings{URL: "s3://b", AccessKey: "a"}); err == nil {
		t.Error("an access key without its secret is taken")
	}
	if _, err := Open(Settings{URL: "s3://b/p?region=eu-west-2"}); err != nil {
		t.Error(err)
	}
}
