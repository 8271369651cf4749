// Package compose holds the tests of redpanda-compose.yml. It is a module of its own, because the
// loader of the Compose specification that they use brings many others with it.
package compose
