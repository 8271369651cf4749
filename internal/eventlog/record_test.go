// The hash that places keys.

package eventlog

import "testing"

// The hashes are those of Apache Kafka's own UtilsTest.testMurmur2.
func TestMurmur2IsJavas(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2(key)); got != want { //nolint:gosec // Java's int
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
	// toPositive(-973932308) % 12 and toPositive(479470107) % 12
	for key, want := range map[string]int32{"21": (-973932308 & 0x7fffffff) % 12, "abc": 479470107 % 12} {
		if got := PartitionFor(key, 12); got != want {
			t.Errorf("PartitionFor(%q, 12) = %d, want %d", key, got, want)
		}
	}
}
