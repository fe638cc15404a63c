package blob

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // S3 takes it as a check of the transfer
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/fusionspim/steward/internal/base/sensitive"
)

const (
	// what is smaller goes in one request; what is larger in parts of this size, one in memory at a
	// time
	partSize = 32 << 20
	mostPart = 10000 // the bound of S3, which makes 312 GiB the largest object
	conflict = 5     // how often a write is tried again that S3 says collided with another one
	// writer is the name of the mark by which a writer knows its own object again.
	writer = "steward-writer"
)

type bucketSettings struct {
	bucket, prefix, region, endpoint string
	insecure                         bool
	accessKey                        string
	secretKey                        sensitive.String
}

// bucket is a store in a bucket of an S3 service that honours If-None-Match.
type bucket struct {
	client minio.Core
	name   string
	prefix string // empty or ends with a slash
	part   int64  // size of the parts
}

func openBucket(settings bucketSettings) (*bucket, error) {
	if settings.bucket == "" {
		return nil, errors.New(
			"blob: the URL of an S3 store names a bucket, such as s3://steward/blobs?region=eu-west-2",
		)
	}
	if settings.prefix != "" {
		if err := checkName(settings.prefix); err != nil {
			return nil, err
		}
		settings.prefix += "/"
	}
	if settings.endpoint == "" {
		settings.endpoint = "s3.amazonaws.com"
	}
	if strings.Contains(settings.endpoint, "/") {
		return nil, errors.New("blob: endpoint of the store's URL is a host, or a host and a port, without a scheme")
	}
	signing := credentials.NewStaticV4(settings.accessKey, settings.secretKey.Reveal(), "")
	switch {
	case settings.accessKey == "" && settings.secretKey.IsEmpty():
		signing = credentials.NewChainCredentials(
			[]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{}},
		)
	case settings.accessKey == "" || settings.secretKey.IsEmpty():
		return nil, errors.New("blob: the access key and the secret key of the store go together")
	}
	client, err := minio.NewCore(
		settings.endpoint,
		&minio.Options{Creds: signing, Secure: !settings.insecure, Region: settings.region},
	)
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	return &bucket{client: *client, name: settings.bucket, prefix: settings.prefix, part: partSize}, nil
}

// Create implements Store.
func (b *bucket) Create(ctx context.Context, name string, content io.Reader) error {
	if err := checkName(name); err != nil {
		return err
	}
	mark := rand.Text()
	// The content is hashed here, so the client need not sign it piece by piece on its way.
	options := minio.PutObjectOptions{
		ContentType:          "application/octet-stream",
		UserMetadata:         map[string]string{writer: mark},
		DisableContentSha256: true,
	}
	options.SetMatchETagExcept("*")

	from := &source{ctx: ctx, reader: content}
	var first bytes.Buffer
	read, err := io.Copy(&first, io.LimitReader(from, b.part))
	switch {
	case err != nil:
		return fmt.Errorf("blob: %s: %w", name, err)
	case read < b.part:
		err = b.put(ctx, b.prefix+name, first.Bytes(), options)
	default:
		err = b.putParts(ctx, b.prefix+name, first.Bytes(), from, options)
	}
	if code := answer(
		err,
	); err != nil &&
		(code.Code == minio.PreconditionFailed || code.StatusCode == http.StatusPreconditionFailed) {
		// An answer that was lost on the way makes the client ask again, and then it is our own
		// object that is in the way.
		if info, err := b.client.StatObject(
			ctx,
			b.name,
			b.prefix+name,
			minio.StatObjectOptions{},
		); err == nil &&
			info.Metadata.Get("X-Amz-Meta-"+writer) == mark {
			return nil
		}
		return fmt.Errorf("blob: %s: %w", name, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("blob: %s: %w", name, err)
	}
	return nil
}

func (b *bucket) put(ctx context.Context, key string, content []byte, options minio.PutObjectOptions) (err error) {
	md5Text, sha256Text := checksums(content)
	for range conflict {
		_, err = b.client.PutObject(
			ctx,
			b.name,
			key,
			bytes.NewReader(content),
			int64(len(content)),
			md5Text,
			sha256Text,
			options,
		)
		if answer(err).StatusCode != http.StatusConflict {
			return err
		}
	}
	return err
}

// putParts writes an object of several parts. It is the completion that makes the object, and so
// that carries the condition; the client's own upload of streams leaves the condition out there.
func (b *bucket) putParts(
	ctx context.Context,
	key string,
	part []byte,
	rest io.Reader,
	options minio.PutObjectOptions,
) (err error) {
	upload, err := b.client.NewMultipartUpload(
		ctx,
		b.name,
		key,
		minio.PutObjectOptions{ContentType: options.ContentType, UserMetadata: options.UserMetadata},
	)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.abort(ctx, key, upload))
		}
	}()
	var done []minio.CompletePart
	for {
		if len(done) == mostPart {
			return fmt.Errorf("larger than %d parts of %d MiB", mostPart, b.part>>20)
		}
		md5Text, sha256Text := checksums(part)
		made, err := b.client.PutObjectPart(
			ctx,
			b.name,
			key,
			upload,
			len(done)+1,
			bytes.NewReader(part),
			int64(len(part)),
			minio.PutObjectPartOptions{Md5Base64: md5Text, Sha256Hex: sha256Text, DisableContentSha256: true},
		)
		if err != nil {
			return err
		}
		done = append(done, minio.CompletePart{PartNumber: made.PartNumber, ETag: made.ETag})
		read, err := io.ReadFull(rest, part[:b.part])
		if read == 0 && errors.Is(err, io.EOF) {
			break
		}
		if err != nil &&
			err != io.ErrUnexpectedEOF { //nolint:errorlint // only the value itself says that the part is the last
			return err
		}
		part = part[:read]
	}
	_, err = b.client.CompleteMultipartUpload(ctx, b.name, key, upload, done, options)
	return err
}

// abort gives up an upload, also when it is given up because the caller has gone.
func (b *bucket) abort(ctx context.Context, key, upload string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := b.client.AbortMultipartUpload(ctx, b.name, key, upload)
	if answer(err).Code == minio.NoSuchUpload {
		return nil
	}
	return err
}

// answer is what the service said, however deep in an error.
func answer(err error) (said minio.ErrorResponse) {
	errors.As(err, &said)
	return said
}

func checksums(content []byte) (md5Base64, sha256Hex string) {
	a, b := md5.Sum(content), sha256.Sum256(content) //nolint:gosec // see above
	return base64.StdEncoding.EncodeToString(a[:]), hex.EncodeToString(b[:])
}

func (b *bucket) translate(name string, err error) error {
	switch code := answer(err); {
	case code.Code == minio.NoSuchKey, code.Code != minio.NoSuchBucket && code.StatusCode == http.StatusNotFound:
		return fmt.Errorf("blob: %s: %w", name, ErrNotFound)
	default:
		return fmt.Errorf("blob: %s: %w", name, err)
	}
}

// Open implements Store.
func (b *bucket) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	reader, _, _, err := b.client.GetObject(ctx, b.name, b.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.translate(name, err)
	}
	return reader, nil
}

// Stat implements Store.
func (b *bucket) Stat(ctx context.Context, name string) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	info, err := b.client.StatObject(ctx, b.name, b.prefix+name, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, b.translate(name, err)
	}
	return Info{Name: name, Size: info.Size, Modified: info.LastModified}, nil
}

// List implements Store.
func (b *bucket) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		options := minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true}
		if after != "" {
			options.StartAfter = b.prefix + after
		}
		for object := range b.client.ListObjectsIter(ctx, b.name, options) {
			if object.Err != nil {
				yield(Info{}, fmt.Errorf("blob: %w", object.Err))
				return
			}
			name := strings.TrimPrefix(object.Key, b.prefix)
			if checkName(name) != nil || name <= after {
				continue // not of this store
			}
			if !yield(Info{Name: name, Size: object.Size, Modified: object.LastModified}, nil) {
				return
			}
		}
	}
}

// Delete implements Store. In a bucket that keeps versions a plain delete would hide the object and
// keep what it holds.
func (b *bucket) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	key := b.prefix + name
	if err := b.client.RemoveObject(ctx, b.name, key, minio.RemoveObjectOptions{}); err != nil {
		return fmt.Errorf("blob: %s: %w", name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for version := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: key, WithVersions: true, Recursive: true}) {
		switch {
		case answer(version.Err).StatusCode == http.StatusNotImplemented:
			return nil // a service without versions
		case version.Err != nil:
			return fmt.Errorf("blob: the versions of %s: %w", name, version.Err)
		case version.Key != key:
			continue
		}
		if err := b.client.RemoveObject(
			ctx,
			b.name,
			key,
			minio.RemoveObjectOptions{VersionID: version.VersionID},
		); err != nil {
			return fmt.Errorf("blob: a version of %s: %w", name, err)
		}
	}
	return nil
}

// Tidy implements Store.
func (b *bucket) Tidy(ctx context.Context, before time.Time) (removed int, err error) {
	keyMarker, uploadMarker := "", ""
	for {
		page, err := b.client.ListMultipartUploads(ctx, b.name, b.prefix, keyMarker, uploadMarker, "", 1000)
		if err != nil {
			return removed, fmt.Errorf("blob: %w", err)
		}
		for _, upload := range page.Uploads {
			if upload.Initiated.Before(before) {
				if err := b.abort(ctx, upload.Key, upload.UploadID); err != nil {
					return removed, fmt.Errorf("blob: %w", err)
				}
				removed++
			}
		}
		if !page.IsTruncated {
			return removed, nil
		}
		keyMarker, uploadMarker = page.NextKeyMarker, page.NextUploadIDMarker
	}
}
