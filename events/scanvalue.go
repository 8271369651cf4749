// Values of members, read by scanner, by the type of what they go into.

package events

import "time"

// value reads what belongs into a member. Null leaves it as it is.
func (s *scanner) value(into any) {
	if s.null() {
		return
	}
	switch p := into.(type) {
	case *string:
		*p = s.text()
	case *bool:
		*p = s.boolean()
	case *int64:
		*p = s.int()
	case *int:
		*p = int(s.int())
	case *int32:
		*p = s.int32()
	case *float64:
		*p = s.float()
	case *time.Time:
		*p = s.time()
	case *[]byte:
		*p = s.base64()
	case *[]string:
		*p = listOf(s, s.text)
	case *map[string]string:
		*p = mapOf(s, s.text)
	case *map[string]any:
		*p = mapOf(s, s.param)
	case *map[string]Value:
		*p = mapOf(s, s.one)
	default:
		s.part(into)
	}
}

// part reads what has members of its own.
func (s *scanner) part(into any) {
	switch p := into.(type) {
	case *Request:
		*p = s.request()
	case *Graph:
		*p = s.graph()
	case *JobState:
		*p = s.state()
	case *Artifact:
		*p = s.artifact()
	case *Sealed:
		*p = s.sealed()
	case *Delivery:
		*p = s.delivery()
	case *Webhook:
		*p = s.webhook()
	case *Consent:
		*p = s.consent()
	case *ReusedFrom:
		*p = s.reused()
	case *[]Node:
		*p = s.nodes()
	case *[]Edge:
		*p = s.edges()
	case *[]Artifact:
		*p = listOf(s, s.artifact)
	case *[]Reason:
		*p = listOf(s, s.reason)
	case *[]StageState:
		*p = listOf(s, s.stage)
	default:
		s.optional(into)
	}
}

// optional reads what is there or not.
func (s *scanner) optional(into any) {
	switch p := into.(type) {
	case **Artifact:
		*p = pointer(s.artifact())
	case **Sealed:
		*p = pointer(s.sealed())
	case **Attachment:
		*p = pointer(s.attachment(member{}))
	case **Consent:
		*p = pointer(s.consent())
	case **ReusedFrom:
		*p = pointer(s.reused())
	case **Value:
		*p = pointer(s.one())
	case **ProfileSnapshot:
		*p = pointer(s.profile())
	case **Webhook:
		*p = pointer(s.webhook())
	case **Verdict:
		*p = pointer(s.verdict())
	default: // what a retry has of its parent is left to encoding/json
		s.bad = true
	}
}

func pointer[T any](v T) *T { return &v }

// listOf reads a list, nil in a dry scanner.
func listOf[T any](s *scanner, item func() T) []T {
	var list []T
	if !s.dry {
		list = []T{}
	}
	for ok := s.open('[', ']'); ok && !s.bad; ok = s.more(']') {
		if v := item(); !s.dry {
			list = append(list, v)
		}
	}
	return list
}

// mapOf reads an object of any names, which have to stand in their order, as
// encoding/json writes a map; nil in a dry scanner.
func mapOf[T any](s *scanner, value func() T) map[string]T {
	var m map[string]T
	if !s.dry {
		m = map[string]T{}
	}
	var before []byte
	for ok := s.open('{', '}'); ok && !s.bad; ok = s.more('}') {
		name := s.raw()
		s.lit(":")
		if before != nil && string(before) >= string(name) { // of two that are equal encoding/json takes the last
			s.bad = true
		}
		before = name
		if v := value(); !s.dry {
			m[shared(name)] = v
		}
	}
	return m
}

// param is a number, a truth or a text.
func (s *scanner) param() any {
	switch s.peek() {
	case '"':
		return s.text()
	case 't', 'f':
		return s.boolean()
	default:
		return s.float()
	}
}
