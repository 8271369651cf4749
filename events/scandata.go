// The envelope and the data of every kind of record, read by scanner.

package events

// scanMessage reads a record as Encode writes it. Want, if given, is asked about the
// aggregate; where it says no, the record is checked, and its version and time are all
// that is kept.
func scanMessage(value []byte, m *Message, want func(aggregateID []byte) bool) (wanted, ok bool) {
	s := scanner{b: value}
	s.lit(`{"event_id":`)
	id := s.raw()
	s.lit(`,"event_type":`)
	kind := s.raw()
	s.lit(`,"schema_version":`)
	m.SchemaVersion = int(s.int())
	s.lit(`,"aggregate_type":`)
	aggregate := s.raw()
	s.lit(`,"aggregate_id":`)
	aggregateID := s.raw()
	zero, known := catalogue[string(kind)]
	if s.bad || !known || len(id) == 0 || len(aggregateID) == 0 || m.SchemaVersion < 1 || m.SchemaVersion > zero.SchemaVersion() {
		return true, false
	}
	s.dry = want != nil && !want(aggregateID)
	m.ID, m.AggregateType, m.AggregateID = s.keep(id), s.keep(aggregate), s.keep(aggregateID)
	s.lit(`,"aggregate_version":`)
	m.Version = s.int()
	s.lit(`,"prev_event_id":`)
	m.PrevID = s.nullable("")
	s.lit(`,"occurred_at":`)
	m.OccurredAt = s.time()
	s.lit(`,"command_id":`)
	m.CommandID = s.like(m.ID)
	s.lit(`,"causation_id":`)
	m.CausationID = s.like(m.CommandID)
	s.lit(`,"correlation_id":`)
	m.CorrelationID = s.like(m.CommandID)
	s.lit(`,"tenant":`)
	m.Tenant = s.text()
	s.lit(`,"actor":`)
	m.Actor = s.text()
	s.columns(&m.Columns, m.AggregateID)
	s.lit(`,"data":`)
	m.Data = s.data(zero)
	s.lit("}")
	return !s.dry, !s.bad && s.i == len(s.b)
}

// like is text that often equals one that was read already.
func (s *scanner) like(other string) string {
	if b := s.raw(); string(b) != other {
		return s.keep(b)
	}
	return other
}

func (s *scanner) nullable(other string) string {
	if s.null() {
		return ""
	}
	return s.like(other)
}

func (s *scanner) nullableInt() int64 {
	if s.null() {
		return 0
	}
	return s.int()
}

func (s *scanner) columns(c *Columns, aggregate string) {
	s.lit(`,"job_id":`)
	c.JobID = s.nullable(aggregate)
	s.lit(`,"stage":`)
	c.Stage = s.nullable("")
	s.lit(`,"task":`)
	c.Task = s.nullable("")
	s.lit(`,"attempt":`)
	c.Attempt = int(s.nullableInt())
	s.lit(`,"state":`)
	c.State = s.nullable("")
	s.lit(`,"variant":`)
	c.Variant = s.nullable("")
	s.lit(`,"lane":`)
	c.Lane = s.nullable("")
	s.lit(`,"worker":`)
	c.Worker = s.nullable("")
	s.lit(`,"model":`)
	c.Model = s.nullable("")
	s.lit(`,"duration_ms":`)
	c.DurationMS = s.nullableInt()
	s.lit(`,"error_class":`)
	c.ErrorClass = s.nullable("")
	s.lit(`,"artifact_uri":`)
	c.ArtifactURI = s.nullable("")
	s.lit(`,"artifact_sha256":`)
	c.ArtifactSHA256 = s.nullable("")
}

// data reads a payload of that type.
func (s *scanner) data(zero Payload) Payload {
	switch zero := zero.(type) {
	case JobFact:
		return s.jobFact(zero)
	case JobInput:
		return s.jobInput(zero)
	case ProfileFact:
		return s.profileFact(zero)
	case ProfileCommand:
		return s.profileCommand(zero)
	default:
		return s.other(zero)
	}
}
