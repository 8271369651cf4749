// Tests with the real helper binary: the log and the S3 store.

package devstack

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func s3Client(t *testing.T, h *HelperServer) *minio.Client {
	t.Helper()
	client, err := minio.New(strings.TrimPrefix(h.S3(), "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(h.AccessKey, h.SecretKey, ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func mustRead(t *testing.T, ctx context.Context, client *minio.Client, key, want string) {
	t.Helper()
	object, err := client.GetObject(ctx, "videos", key, minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()
	got, err := io.ReadAll(object)
	if err != nil || string(got) != want {
		t.Fatalf("object %s: %q, %v", key, got, err)
	}
}

func TestHelperKeepsLogAndObjects(t *testing.T) {
	t.Parallel()
	ctx := within(t, 3*time.Minute)
	h, err := StartHelper(ctx, Helper{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, h)
	kafka, s3 := h.Kafka(), h.S3()

	if err := produce(ctx, kafka, "never-made", "x"); err == nil {
		t.Error("a topic was made by writing to it")
	}
	createTopic(t, ctx, kafka, "events")
	if err := produce(ctx, kafka, "events", "one"); err != nil {
		t.Fatal(err)
	}
	client := s3Client(t, h)
	if err := client.MakeBucket(ctx, "videos", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutObject(ctx, "videos", "a/b.mp4", bytes.NewReader([]byte("moving")), 6, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = client.CopyObject(ctx, minio.CopyDestOptions{Bucket: "videos", Object: "c"}, minio.CopySrcOptions{Bucket: "videos", Object: "a/b.mp4"})
	if err != nil {
		t.Errorf("copy: %v", err)
	}

	if err := h.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if h.Kafka() != kafka || h.S3() != s3 {
		t.Errorf("the addresses changed: %s %s, were %s %s", h.Kafka(), h.S3(), kafka, s3)
	}
	if err := produce(ctx, kafka, "events", "two"); err != nil {
		t.Fatal(err)
	}
	if got := consume(t, ctx, kafka, "events", 2); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("read %q", got)
	}
	mustRead(t, ctx, client, "a/b.mp4", "moving")
	mustRead(t, ctx, client, "c", "moving")

	h.SecretKey = "wrong"
	if _, err := s3Client(t, h).ListBuckets(ctx); err == nil {
		t.Error("a wrong secret opens the store")
	}
}

func TestHelperRunsOneHalfAlone(t *testing.T) {
	t.Parallel()
	h, err := StartHelper(within(t, time.Minute), Helper{Dir: t.TempDir(), NoLog: true, AccessKey: "me", SecretKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, h)
	if h.Kafka() != "" || h.AccessKey != "me" || h.SecretKey != "secret" {
		t.Errorf("log %q, keys %q %q", h.Kafka(), h.AccessKey, h.SecretKey)
	}
	if _, err := s3Client(t, h).ListBuckets(within(t, time.Minute)); err != nil {
		t.Error(err)
	}
}

func TestHelperRefusesADirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h, err := StartHelper(within(t, time.Minute), Helper{Dir: dir, NoS3: true})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, h)
	_, err = StartHelper(within(t, time.Minute), Helper{Dir: dir, NoS3: true})
	mustContain(t, err, "another program is using "+dir)
}

func TestHelperNeedsADirectory(t *testing.T) {
	t.Parallel()
	_, err := StartHelper(t.Context(), Helper{})
	mustContain(t, err, "no directory")
}
