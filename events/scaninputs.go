// The data of commands, of workers' words and of answers, read by scanner.

package events

func (s *scanner) jobInput(zero JobInput) Payload {
	switch d := zero.(type) {
	case JobSubmit:
		s.fields(member{"request", &d.Request}, member{"parent", &d.Parent})
		return d
	case JobApprove:
		s.fields(member{"edit", &d.Edit})
		return d
	case JobDeny:
		s.fields(member{"reason", &d.Reason})
		return d
	case JobLabel:
		s.fields(member{"labels", &d.Labels})
		return d
	case ClockStageTimeout:
		s.fields(member{"deadline_ms", &d.DeadlineMS})
		return d
	case ClockRetryDue:
		s.fields(member{"deadline_ms", &d.DeadlineMS})
		return d
	case ClockDeadline:
		s.fields(member{"deadline_ms", &d.DeadlineMS})
		return d
	case ClockApprovalExpired:
		s.fields(member{"deadline_ms", &d.DeadlineMS})
		return d
	case ClockScheduleDue:
		s.fields(member{"deadline_ms", &d.DeadlineMS})
		return d
	case ClockLeaseExpired:
		s.fields(member{"lease_ms", &d.LeaseMS})
		return d
	case ClockCarryDue:
		s.fields(member{"version", &d.Version})
		return d
	case TaskAccepted:
		s.fields(member{"lease_ms", &d.LeaseMS}, member{"gpu", &d.GPU})
		return d
	case TaskSucceeded:
		d.Result = s.result(member{"reused_from", &d.ReusedFrom})
		return d
	case TaskFailed:
		s.fields(member{"message", &d.Message}, member{"hint", &d.Hint}, member{"log_tail", &d.LogTail}, member{"misplaced", &d.Misplaced})
		return d
	case JobCancel, ClockArchiveDue, TaskCancelled:
		s.fields()
		return d
	default:
		return nil
	}
}

func (s *scanner) profileCommand(zero ProfileCommand) Payload {
	switch d := zero.(type) {
	case ProfileCreate:
		s.fields(member{"name", &d.Name}, member{"consent", &d.Consent}, member{"portrait", &d.Portrait}, member{"voice", &d.Voice}, member{"transcript", &d.Transcript})
		return d
	case ProfileRename:
		s.fields(member{"name", &d.Name})
		return d
	case ProfileRecordConsent:
		s.fields(member{"consent", &d.Consent})
		return d
	case ProfileAttachVoice:
		d.Attachment = s.attachment(member{"transcript", &d.Transcript}, member{"weights", &d.Weights})
		return d
	case ProfileAttachLora:
		d.Attachment = s.attachment()
		return d
	case ProfileAttachPortrait:
		d.Attachment = s.attachment()
		return d
	case ProfileWithdrawConsent, ProfileArchive, ProfileRestore, ProfileErase, ProfileCompleteErasure:
		s.fields()
		return d
	default:
		return nil
	}
}

// other reads what is no fact and no input of the handler.
func (s *scanner) other(zero Payload) Payload { //nolint:gochecksumtype // the others have functions of their own
	switch d := zero.(type) {
	case TaskRun:
		s.fields(member{"params", &d.Params}, member{"inputs", &d.Inputs}, member{"plane", &d.Plane}, member{"mode", &d.Mode},
			member{"workflow_id", &d.Workflow}, member{"profile_id", &d.ProfileID}, member{"subject", &d.Subject}, member{"timeout_ms", &d.TimeoutMS},
			member{"input_hash", &d.InputHash}, member{"engine", &d.Engine}, member{"share", &d.Share}, member{"reduce", &d.Reduce},
			member{"engines", &d.Engines}, member{"wants", &d.Wants})
		return d
	case TaskProgress:
		s.fields(member{"percent", &d.Percent}, member{"step", &d.Step}, member{"steps", &d.Steps}, member{"message", &d.Message}, member{"eta_ms", &d.EtaMS})
		return d
	case TaskStop:
		s.fields(member{"reason", &d.Reason})
		return d
	case CommandReplied:
		s.fields(member{"outcome", &d.Outcome}, member{"code", &d.Code}, member{"detail", &d.Detail}, member{"version", &d.Version}, member{"status", &d.Status})
		return d
	case WebhookRegistered:
		s.fields(member{"webhook", &d.Webhook}, member{"first_offset", &d.FirstOffset})
		return d
	case WebhookQueued:
		d.Delivery = s.delivery()
		return d
	case WebhookAttempted:
		s.fields(member{"delivery_id", &d.DeliveryID}, member{"status", &d.Status}, member{"message", &d.Message}, member{"next_ms", &d.NextMS})
		return d
	case WebhookClosed:
		s.fields()
		return d
	case WebhookRedeliver:
		s.fields(member{"webhook", &d.Webhook}, member{"first_offset", &d.FirstOffset}, member{"delivery", &d.Delivery},
			member{"ended", &d.Ended})
		return d
	default: // workers' manifests are few
		s.bad = true
		return nil
	}
}
