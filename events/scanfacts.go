// The data of facts, read by scanner. A payload's members stand here in the order of
// its fields.

package events

func (s *scanner) jobFact(zero JobFact) Payload {
	switch d := zero.(type) {
	case JobSubmitted:
		s.fields(member{"request", &d.Request}, member{"parent", &d.Parent})
		return d
	case JobPlanned:
		s.fields(member{"graph", &d.Graph}, member{"deadline_ms", &d.DeadlineMS}, member{"tasks", &d.Tasks}, member{"profile", &d.Profile})
		return d
	case JobRejected:
		s.fields(member{"reasons", &d.Reasons})
		return d
	case JobSucceeded:
		s.fields(member{"outputs", &d.Outputs})
		return d
	case JobFailed:
		s.fields(member{"message", &d.Message}, member{"hint", &d.Hint}, member{"log_tail", &d.LogTail})
		return d
	case JobCarriedForward:
		s.fields(member{"state", &d.State})
		return d
	case JobLabelled:
		s.fields(member{"labels", &d.Labels})
		return d
	case StageScheduled:
		s.fields(member{"partition", &d.Partition}, member{"input_hash", &d.InputHash}, member{"engine", &d.Engine},
			member{"timeout_ms", &d.TimeoutMS}, member{"batch", &d.Batch}, member{"reduce", &d.Reduce})
		return d
	case StageStarted:
		s.fields(member{"gpu", &d.GPU}, member{"deadline_ms", &d.DeadlineMS}, member{"lease_ms", &d.LeaseMS})
		return d
	case StageSucceeded:
		d.Result = s.result(member{})
		return d
	case StageFailed:
		s.fields(member{"message", &d.Message}, member{"hint", &d.Hint}, member{"log_tail", &d.LogTail}, member{"retry_at_ms", &d.RetryAtMS})
		return d
	case StageSkipped:
		s.fields(member{"reason", &d.Reason})
		return d
	case StageReused:
		d.Result = s.result(member{"from", &d.From})
		return d
	case StageAttemptExpired:
		s.fields(member{"message", &d.Message}, member{"retry_at_ms", &d.RetryAtMS})
		return d
	case ApprovalRequested:
		s.fields(member{"script", &d.Script}, member{"expires_ms", &d.ExpiresMS})
		return d
	case ApprovalGranted:
		s.fields(member{"edit", &d.Edit})
		return d
	case ApprovalDenied:
		s.fields(member{"reason", &d.Reason})
		return d
	case ArtifactRegistered:
		s.fields(member{"artifact", &d.Artifact}, member{"output", &d.Output}, member{"fidelity", &d.Fidelity}, member{"engine", &d.Engine})
		return d
	case JobCancelRequested, JobCancelled, StageCancelled, ApprovalExpired:
		s.fields()
		return d
	default:
		return nil
	}
}

func (s *scanner) profileFact(zero ProfileFact) Payload {
	switch d := zero.(type) {
	case ProfileCreated:
		s.fields(member{"name", &d.Name})
		return d
	case ProfileRenamed:
		s.fields(member{"name", &d.Name})
		return d
	case ProfileConsentRecorded:
		s.fields(member{"consent", &d.Consent})
		return d
	case ProfileVoiceAttached:
		d.Attachment = s.attachment(member{"transcript", &d.Transcript}, member{"weights", &d.Weights})
		return d
	case ProfileLoraAttached:
		d.Attachment = s.attachment()
		return d
	case ProfilePortraitAttached:
		d.Attachment = s.attachment()
		return d
	case ProfileConsentWithdrawn, ProfileArchived, ProfileRestored, ProfileErased, ProfileErasureCompleted:
		s.fields()
		return d
	default:
		return nil
	}
}
