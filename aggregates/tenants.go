// Tenants: what belongs to another one does not exist for who sends a command, and no
// command brings another's files and texts along.

package aggregates

import (
	"github.com/myspinbot/myspinbot/events"
)

// CodeContentForeign refuses a command that names another tenant's files or texts.
const CodeContentForeign = "content_foreign"

// Foreign is why a client's command of another tenant than the job's is refused; nil for
// the tenant's own, and for what is no client's command.
func (j Job) Foreign(m events.Message) *events.Reason {
	input, ok := m.Data.(events.JobInput)
	if !ok || j.Chain.Version == 0 || m.Tenant == j.Tenant {
		return nil
	}
	return RefuseForeign(input)
}

// RefuseForeign answers a client's command on a job of another tenant as if there were no
// such job; nil for what is no client's command. An id that is taken cannot be given again.
func RefuseForeign(input events.JobInput) *events.Reason {
	if _, submits := input.(events.JobSubmit); submits {
		return conflict()
	}
	return Refuse(false, "", input)
}

// Foreign is why a command of another tenant than the profile's is refused; nil for the
// tenant's own.
func (p Profile) Foreign(m events.Message) *events.Reason {
	command, ok := m.Data.(events.ProfileCommand)
	if !ok || p.Chain.Version == 0 || m.Tenant == p.Tenant {
		return nil
	}
	if _, creates := command.(events.ProfileCreate); creates {
		return profileTaken()
	}
	return profileUnknown()
}

// refuseContent refuses a client's command that names files or texts in the folder of
// another tenant. The API lets none through; this keeps the log so whoever writes to it.
func refuseContent(m events.Message) *events.Reason {
	o := owned{tenant: m.Tenant}
	switch c := m.Data.(type) { //nolint:gochecksumtype // commands with content alone
	case events.JobSubmit:
		o.request(c.Request)
		if c.Parent != nil {
			for _, r := range c.Parent.Results {
				o.values(r.Outputs)
			}
		}
	case events.JobApprove:
		if c.Edit != nil {
			o.value(*c.Edit)
		}
	case events.JobDeny:
		o.text(c.Reason)
	case events.ProfileCreate:
		o.text(&c.Name)
		o.consent(c.Consent)
		o.text(c.Transcript)
		o.attachment(c.Portrait)
		o.attachment(c.Voice)
	case events.ProfileRename:
		o.text(&c.Name)
	case events.ProfileRecordConsent:
		o.consent(&c.Consent)
	case events.ProfileAttachVoice:
		o.attachment(&c.Attachment)
		o.text(c.Transcript)
		for _, w := range c.Weights {
			o.file(w)
		}
	case events.ProfileAttachLora:
		o.attachment(&c.Attachment)
	case events.ProfileAttachPortrait:
		o.attachment(&c.Attachment)
	}
	if !o.foreign {
		return nil
	}
	return &events.Reason{Code: CodeContentForeign, Detail: "a file or a text that is named here is not this tenant's; upload it, or write it, again"}
}

// owned looks through content for what is not the tenant's.
type owned struct {
	tenant  string
	foreign bool
}

func (o *owned) of(owner string) { o.foreign = o.foreign || owner != "" && owner != o.tenant }

func (o *owned) file(a events.Artifact) { o.of(a.Owner()) }

func (o *owned) text(s *events.Sealed) {
	if s != nil {
		o.of(s.Owner())
	}
}

func (o *owned) value(v events.Value) {
	o.text(v.Text)
	for _, a := range v.Artifacts {
		o.file(a)
	}
}

func (o *owned) values(all map[string]events.Value) {
	for _, v := range all {
		o.value(v)
	}
}

func (o *owned) consent(c *events.Consent) {
	if c != nil {
		o.text(&c.By)
		o.text(&c.Statement)
	}
}

func (o *owned) attachment(a *events.Attachment) {
	if a != nil {
		o.file(a.Artifact)
	}
}

func (o *owned) request(r events.Request) {
	o.values(r.Inputs)
	o.text(r.ProfileName)
	o.consent(r.Consent)
	if r.Edit != nil {
		o.value(*r.Edit)
	}
	if r.Webhook != nil {
		o.text(&r.Webhook.URL)
		o.text(&r.Webhook.Secret)
	}
}
