// The questions that tell whether a server is ready for work, spoken in its own protocol: an open
// port proves nothing, since servers open it before they can serve.

package devstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// dial connects. Reads and writes on the connection fail once ctx ends.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // fails on a closed connection, which is as good
	return conn, nil
}

// maxAnswer bounds what a probe reads, in case another kind of server answers.
const maxAnswer = 64 << 10

// postgresReady logs in to the database "postgres" and out again. It answers nil at
// ReadyForQuery, and the server's own words ("the database system is starting up") before.
// Protocol 3.0: a message is a type byte, a length that counts itself, and the rest; the first
// one has no type.
func postgresReady(ctx context.Context, addr, user string) error {
	conn, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer conn.Close()

	body := []byte{0, 3, 0, 0}
	for _, s := range []string{"user", user, "database", "postgres", ""} {
		body = append(append(body, s...), 0)
	}
	hello := binary.BigEndian.AppendUint32(nil, uint32(4+len(body))) //nolint:gosec // some dozen bytes
	if _, err := conn.Write(append(hello, body...)); err != nil {
		return err
	}
	for {
		var head [5]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return err
		}
		size := binary.BigEndian.Uint32(head[1:])
		if size < 4 || size > maxAnswer {
			return fmt.Errorf("%s does not speak PostgreSQL's protocol", addr)
		}
		message := make([]byte, size-4)
		if _, err := io.ReadFull(conn, message); err != nil {
			return err
		}
		switch head[0] {
		case 'E':
			return fmt.Errorf("PostgreSQL answers %q", bytes.ReplaceAll(message, []byte{0}, []byte{' '}))
		case 'Z':
			_, err := conn.Write([]byte{'X', 0, 0, 0, 4}) // Terminate
			return err
		}
	}
}

// kafkaReady asks a broker for its ApiVersions (key 18, version 0) and answers nil when it gets
// them without an error. Kafka 4 processes requests only after the controller has let it serve.
func kafkaReady(ctx context.Context, addr string) error {
	conn, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer conn.Close()

	const correlation = 0x4d534231
	request := []byte{0, 0, 0, 10, 0, 18, 0, 0}
	request = binary.BigEndian.AppendUint32(request, correlation)
	request = append(request, 0xff, 0xff) // no client id
	if _, err := conn.Write(request); err != nil {
		return err
	}
	var head [10]byte // size, correlation id, error code
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(head[4:]) != correlation {
		return fmt.Errorf("%s does not speak Kafka's protocol", addr)
	}
	if code := binary.BigEndian.Uint16(head[8:]); code != 0 {
		return fmt.Errorf("Kafka answers with error code %d", code)
	}
	return nil
}
