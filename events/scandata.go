// The envelope and the data of frequent records, read by scanner.

package events

// scanMessage reads a record as Encode writes it.
func scanMessage(value []byte) (Message, bool) {
	s := scanner{b: value}
	var m Message
	s.lit(`{"event_id":`)
	m.ID = s.text()
	s.lit(`,"event_type":`)
	kind := s.text()
	s.lit(`,"schema_version":`)
	m.SchemaVersion = int(s.int())
	s.lit(`,"aggregate_type":`)
	m.AggregateType = s.text()
	s.lit(`,"aggregate_id":`)
	m.AggregateID = s.text()
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
	zero, known := catalogue[kind]
	if s.bad || !known || m.ID == "" || m.AggregateID == "" || m.SchemaVersion < 1 || m.SchemaVersion > zero.SchemaVersion() {
		return m, false
	}
	m.Data = s.data(zero)
	s.lit("}")
	return m, m.Data != nil && !s.bad && s.i == len(s.b)
}

// like is text that often equals one that was read already.
func (s *scanner) like(other string) string {
	if b := s.raw(); string(b) != other {
		return shared(b)
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

// data reads a payload of that type; nil for one that it does not read.
func (s *scanner) data(zero Payload) Payload { //nolint:gochecksumtype // the frequent ones alone
	switch zero.(type) {
	case JobSubmit:
		var d JobSubmit
		s.only("request", func() { d.Request = s.request() })
		return d
	case JobSubmitted:
		var d JobSubmitted
		s.only("request", func() { d.Request = s.request() })
		return d
	case JobPlanned:
		var d JobPlanned
		s.object(func(k string) {
			switch k {
			case "graph":
				d.Graph = s.graph()
			case "deadline_ms":
				d.DeadlineMS = s.int()
			case "tasks":
				d.Tasks = s.texts()
			default:
				s.bad = true
			}
		})
		return d
	case JobSucceeded:
		var d JobSucceeded
		s.only("outputs", func() { d.Outputs = s.values() })
		return d
	case StageSucceeded:
		return StageSucceeded{Result: s.result()}
	case TaskSucceeded:
		return TaskSucceeded{Result: s.result()}
	case TaskCancelled:
		s.lit("{}")
		return TaskCancelled{}
	case TaskAccepted, StageScheduled, StageStarted, TaskRun, CommandReplied, TaskProgress:
		return s.flat(zero)
	default:
		return nil
	}
}

// only reads an object of one member.
func (s *scanner) only(name string, value func()) {
	s.object(func(k string) {
		if s.bad = s.bad || k != name; !s.bad {
			value()
		}
	})
}

// flat reads payloads of plain members.
func (s *scanner) flat(zero Payload) Payload { //nolint:gochecksumtype // those that data names
	switch d := zero.(type) {
	case TaskAccepted:
		s.object(func(k string) {
			switch k {
			case "lease_ms":
				d.LeaseMS = s.int()
			case "gpu":
				d.GPU = s.text()
			default:
				s.bad = true
			}
		})
		return d
	case StageScheduled:
		s.object(func(k string) {
			switch k {
			case "partition":
				d.Partition = s.int32()
			case "input_hash":
				d.InputHash = s.text()
			case "engine":
				d.Engine = s.text()
			case "timeout_ms":
				d.TimeoutMS = s.int()
			case "batch":
				d.Batch = s.boolean()
			case "reduce":
				d.Reduce = int(s.int())
			default:
				s.bad = true
			}
		})
		return d
	case StageStarted:
		s.object(func(k string) {
			switch k {
			case "gpu":
				d.GPU = s.text()
			case "deadline_ms":
				d.DeadlineMS = s.int()
			case "lease_ms":
				d.LeaseMS = s.int()
			default:
				s.bad = true
			}
		})
		return d
	case TaskProgress:
		s.object(func(k string) {
			switch k {
			case "percent":
				d.Percent = s.float()
			case "step":
				d.Step = int(s.int())
			case "steps":
				d.Steps = int(s.int())
			case "message":
				d.Message = s.text()
			case "eta_ms":
				d.EtaMS = s.int()
			default:
				s.bad = true
			}
		})
		return d
	case TaskRun:
		return s.run()
	case CommandReplied:
		return s.replied()
	default:
		return nil
	}
}

func (s *scanner) run() (d TaskRun) {
	s.object(func(k string) {
		switch k {
		case "params":
			d.Params = s.params()
		case "inputs":
			d.Inputs = s.values()
		case "plane":
			d.Plane = s.text()
		case "mode":
			d.Mode = s.text()
		case "workflow_id":
			d.Workflow = s.text()
		case "profile_id":
			d.ProfileID = s.text()
		case "subject":
			d.Subject = s.text()
		case "timeout_ms":
			d.TimeoutMS = s.int()
		case "input_hash":
			d.InputHash = s.text()
		case "engine":
			d.Engine = s.text()
		case "share":
			d.Share = s.boolean()
		case "reduce":
			d.Reduce = int(s.int())
		default:
			s.bad = true
		}
	})
	return d
}

func (s *scanner) replied() (d CommandReplied) {
	s.object(func(k string) {
		switch k {
		case "outcome":
			d.Outcome = s.text()
		case "code":
			d.Code = s.text()
		case "detail":
			d.Detail = s.text()
		case "version":
			d.Version = s.int()
		case "status":
			d.Status = s.text()
		default:
			s.bad = true
		}
	})
	return d
}
