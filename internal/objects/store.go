// Package objects keeps bytes in one private S3 bucket: written once under the
// digest of their content, verified, opened with ranges, presigned, erased.
//
// What belongs here: the S3 client (minio-go is imported nowhere else) and the
// key objects that make sealed text readable. What may not: what the bytes mean,
// the log, HTTP handlers, policy about who may read what.
//
// Only plain S3 is used, so any server will do. Objects lie at
// <tenant>/<profile or "-">/<job or upload>/<sha256>.<ext>, key objects at
// keys/<tenant>/<profile or "-">/<job>, manifests of results at
// <tenant>/results/<name>.json, files that clients post to the store themselves at
// <tenant>/incoming/<id> until they are checked.
package objects

// This file opens the bucket and turns the server's answers into our errors.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

var (
	// ErrMissing says that the object is not there.
	ErrMissing = errors.New("the object does not exist")
	// ErrUnavailable says that the store did not answer or could not serve; trying later may help.
	ErrUnavailable = errors.New("the object store is unavailable")
	// ErrForeign says that a URI names nothing that this store may hand out.
	ErrForeign = errors.New("the URI is not one of this store's objects")
	// ErrCorrupt says that the stored bytes are not those that were promised.
	ErrCorrupt = errors.New("the object's bytes do not match its digest")
)

// Config says where the bucket is. All fields but Region, PublicEndpoint,
// Secure, TempDir and Transport are needed.
type Config struct {
	// Endpoint is host:port, or a URL whose scheme then decides Secure.
	Endpoint string
	// PublicEndpoint is the address under which browsers reach the same store, for
	// presigned links; empty: Endpoint.
	PublicEndpoint string
	AccessKey      string
	SecretKey      string
	Bucket         string
	Region         string // default us-east-1
	Secure         bool   // TLS
	TempDir        string // for bytes whose digest is not known yet; default the system's
	// Transport carries the requests; default minio-go's own. For tests without a network.
	Transport http.RoundTripper
}

// Store is one bucket. Its methods may be called from several goroutines.
type Store struct {
	s3     *minio.Client
	public *minio.Client // signs links only, never connects
	bucket string
	region string

	tempDir string
}

const defaultRegion = "us-east-1"

// maxTries bounds minio-go's own repeats of one request; callers decide about
// longer waits.
const maxTries = 3

// Open connects to the store and creates the bucket, private, if it is absent.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Region == "" {
		c.Region = defaultRegion
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	client, err := connect(c, c.Endpoint)
	if err != nil {
		return nil, err
	}
	s := &Store{s3: client, public: client, bucket: c.Bucket, region: c.Region, tempDir: c.TempDir}
	if c.PublicEndpoint != "" {
		if s.public, err = connect(c, c.PublicEndpoint); err != nil {
			return nil, err
		}
	}
	if err := s.ensureBucket(ctx); err != nil {
		return nil, fmt.Errorf("cannot open bucket %q at %s: %w", c.Bucket, c.Endpoint, classify(ctx, err))
	}
	return s, nil
}

func (c Config) check() error {
	var faults []error
	for _, f := range []struct{ name, value string }{
		{"endpoint", c.Endpoint}, {"access key", c.AccessKey}, {"secret key", c.SecretKey}, {"bucket", c.Bucket},
	} {
		if f.value == "" {
			faults = append(faults, fmt.Errorf("the object store's %s is not set", f.name))
		}
	}
	return errors.Join(faults...)
}

func connect(c Config, endpoint string) (*minio.Client, error) {
	host, secure := endpoint, c.Secure
	if strings.Contains(endpoint, "://") {
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" {
			return nil, fmt.Errorf("cannot use %q as object store: give host:port, http://host:port or https://host:port", endpoint)
		}
		host, secure = u.Host, u.Scheme == "https"
	}
	client, err := minio.New(host, &minio.Options{
		Creds:      credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""),
		Region:     c.Region, // known, so that no request has to ask for it
		Secure:     secure,
		MaxRetries: maxTries,
		Transport:  c.Transport,
		// Over plain HTTP some servers refuse every checksum that trails the body.
		TrailingHeaders: false,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot use %q as object store: %w", endpoint, err)
	}
	return client, nil
}

func (s *Store) ensureBucket(ctx context.Context) error {
	there, err := s.s3.BucketExists(ctx, s.bucket)
	if err != nil || there {
		return err
	}
	err = s.s3.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{Region: s.region})
	switch minio.ToErrorResponse(err).Code {
	case "BucketAlreadyOwnedByYou", "BucketAlreadyExists": // another process was faster
		return nil
	}
	return err
}

// Check says whether the store answers, for a readiness page: nil or ErrUnavailable.
func (s *Store) Check(ctx context.Context) error {
	there, err := s.s3.BucketExists(ctx, s.bucket)
	switch {
	case err != nil:
		return classify(ctx, err)
	case !there:
		return fmt.Errorf("%w: bucket %q does not exist", ErrUnavailable, s.bucket)
	}
	return nil
}

// classify adds ErrMissing or ErrUnavailable to what the client said. A context
// that ended stays recognisable; only a cancelled one says nothing about the store.
func classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := ctx.Err(); cause != nil {
		if !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		if errors.Is(cause, context.Canceled) {
			return err
		}
	}
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		var network net.Error
		var request *url.Error
		if errors.As(err, &network) || errors.As(err, &request) {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return err
	}
	switch {
	case answer.Code == "NoSuchKey" || (answer.StatusCode == http.StatusNotFound && answer.Code != "NoSuchBucket"):
		return fmt.Errorf("%w: %w", ErrMissing, err)
	case answer.StatusCode >= http.StatusInternalServerError || answer.StatusCode == http.StatusTooManyRequests || answer.Code == "NoSuchBucket":
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// exists says whether err is the refusal of a second write under the same key.
func exists(err error) bool {
	answer := minio.ToErrorResponse(err)
	return answer.StatusCode == http.StatusPreconditionFailed || answer.Code == "ConditionalRequestConflict"
}
