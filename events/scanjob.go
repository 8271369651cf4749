// What a job is made of, read by scanner.

package events

func (s *scanner) request() (r Request) {
	s.object(func(k string) {
		switch k {
		case "workflow_id":
			r.Workflow = s.text()
		case "mode":
			r.Mode = s.text()
		case "variant":
			r.Variant = s.text()
		case "options":
			r.Options = s.params()
		case "inputs":
			r.Inputs = s.values()
		case "profile_id":
			r.ProfileID = s.text()
		case "profile_name":
			r.ProfileName = s.sealed()
		case "key_digest":
			r.KeyDigest = s.text()
		case "body_digest":
			r.BodyDigest = s.text()
		case "approval":
			r.Approval = s.boolean()
		case "not_before_ms":
			r.NotBeforeMS = s.int()
		case "priority":
			r.Priority = s.text()
		case "parent_job_id":
			r.ParentJobID = s.text()
		default:
			s.bad = true
		}
	})
	return r
}

func (s *scanner) sealed() *Sealed {
	var v Sealed
	s.object(func(k string) {
		switch k {
		case "sealed":
			v.Bytes = s.base64()
		case "key":
			v.Key = s.text()
		default:
			s.bad = true
		}
	})
	return &v
}

func (s *scanner) values() map[string]Value {
	out := map[string]Value{}
	s.object(func(k string) {
		var v Value
		s.object(func(k string) {
			switch k {
			case "text":
				v.Text = s.sealed()
			case "digest":
				v.Digest = s.text()
			case "artifacts":
				v.Artifacts = []Artifact{}
				s.list(func() { v.Artifacts = append(v.Artifacts, s.artifact()) })
			default:
				s.bad = true
			}
		})
		out[k] = v
	})
	return out
}

func (s *scanner) artifact() (a Artifact) {
	s.object(func(k string) {
		switch k {
		case "id":
			a.ID = s.text()
		case "name":
			a.Name = s.text()
		case "type":
			a.Type = s.text()
		case "media_type":
			a.MediaType = s.text()
		case "uri":
			a.URI = s.text()
		case "sha256":
			a.SHA256 = s.text()
		case "size":
			a.Size = s.int()
		case "width":
			a.Width = int(s.int())
		case "height":
			a.Height = int(s.int())
		case "duration_ms":
			a.DurationMS = s.int()
		default:
			s.bad = true
		}
	})
	return a
}

func (s *scanner) result() (r Result) {
	s.object(func(k string) {
		switch k {
		case "outputs":
			r.Outputs = s.values()
		case "fidelity":
			r.Fidelity = s.text()
		case "engine":
			r.Engine = s.text()
		case "version":
			r.Version = s.text()
		case "notes":
			r.Notes = s.texts()
		default:
			s.bad = true
		}
	})
	return r
}

func (s *scanner) graph() (g Graph) {
	s.object(func(k string) {
		switch k {
		case "workflow_id":
			g.Workflow = s.text()
		case "variant":
			g.Variant = s.text()
		case "mode":
			g.Mode = s.text()
		case "profile_id":
			g.ProfileID = s.text()
		case "options":
			g.Options = s.params()
		case "nodes":
			g.Nodes = []Node{}
			s.list(func() { g.Nodes = append(g.Nodes, s.node()) })
		case "edges":
			g.Edges = []Edge{}
			s.list(func() { g.Edges = append(g.Edges, s.edge()) })
		default:
			s.bad = true
		}
	})
	return g
}

func (s *scanner) edge() (e Edge) {
	s.object(func(k string) {
		switch k {
		case "from":
			e.From = s.text()
		case "to":
			e.To = s.text()
		default:
			s.bad = true
		}
	})
	return e
}

func (s *scanner) node() (n Node) {
	s.object(func(k string) {
		switch k {
		case "id":
			n.ID = s.text()
		case "task":
			n.Task = s.text()
		case "plane":
			n.Plane = s.text()
		case "lane":
			n.Lane = s.text()
		case "params":
			n.Params = s.params()
		case "in":
			n.In = s.names()
		case "out":
			n.Out = s.names()
		case "pass":
			n.Pass = s.names()
		case "weight":
			n.Weight = s.float()
		case "timeout_ms":
			n.TimeoutMS = s.int()
		case "skip":
			n.Skip = s.text()
		default:
			s.bad = true
		}
	})
	return n
}
