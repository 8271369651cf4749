// The log: one kfake broker that keeps its topics, groups and transactions on disk.

package main

import (
	"fmt"
	"net"
	"os"

	"github.com/twmb/franz-go/pkg/kfake"
)

// openLog starts the broker on addr (127.0.0.1:PORT, port 0 for a free one) with its files in
// dir. Topics are never made by asking for them, as on the brokers of production.
func openLog(dir, addr string) (*kfake.Cluster, error) {
	log, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.DataDir(dir),
		kfake.ClusterID("myspinbot-dev"),
		kfake.WithLogger(kfake.BasicLogger(os.Stderr, kfake.LogLevelWarn)),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) { return net.Listen(network, addr) }),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot run the log in %s on %s: %w", dir, addr, err)
	}
	return log, nil
}
