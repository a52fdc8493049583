package catalog

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Notification says who is told what outside, by which channel and when. What is told
// is a hint: what waits for whom stands at the server, and is decided there by whoever
// signs in.
type Notification struct {
	Name  string `json:"name"`
	Title string `json:"title,omitempty"`
	// Via is how: mail tells each user for himself; slack, teams and webhook tell one
	// room or service, about what waits for any of them.
	Via string `json:"via"`
	// Channel is the name of the server's file channel@NAME with the address and its
	// secrets; default: the name of the notification.
	Channel string                 `json:"channel,omitempty"`
	To      []lockkeeper.Principal `json:"to"` // user:NAME and group:NAME
	// About is what is told: deployments, requests, overrides, reviews, proposals and
	// campaigns that wait for them, notices that they have not acknowledged, ended
	// deployments that they started, and alerts.
	About []string `json:"about"`
	// Urgent is what of About neither quiet hours nor a digest holds up.
	Urgent []string `json:"urgent,omitempty"`
	Quiet  *Quiet   `json:"quiet,omitempty"`  // hours in which nothing is told; it is told together when they end
	Digest *Digest  `json:"digest,omitempty"` // told together, now and then, instead of one by one
}

// Quiet is when nothing is told, by the clock on the wall.
type Quiet struct {
	Zone    string         `json:"zone"` // IANA: Europe/Zurich
	Windows []FreezeWindow `json:"windows"`
}

// A Digest is when what came together is told. Exactly one of every and at.
type Digest struct {
	Every Duration `json:"every,omitempty"` // 1m to 24h, counted in UTC from midnight
	At    []string `json:"at,omitempty"`    // times of day: "08:00"
	Zone  string   `json:"zone,omitempty"`  // IANA; of at
}

// How somebody is told.
const (
	ViaMail    = "mail"
	ViaSlack   = "slack"
	ViaTeams   = "teams"
	ViaWebhook = "webhook"
)

// What somebody is told about.
const (
	AboutDeployments = "deployments"
	AboutRequests    = "requests"
	AboutOverrides   = "overrides"
	AboutReviews     = "reviews"
	AboutProposals   = "proposals"
	AboutCampaigns   = "campaigns"
	AboutNotices     = "notices"
	AboutEnded       = "ended"
	AboutAlerts      = "alerts"
)

// Bounds of notifications.
const (
	MaxNotifications = 200 // of a catalog
	maxTold          = 100 // principals of one
	maxDigests       = 24  // times of day
)

// NotificationTopics lists what somebody can be told about.
func NotificationTopics() []string {
	return []string{AboutDeployments, AboutRequests, AboutOverrides, AboutReviews, AboutProposals, AboutCampaigns, AboutNotices, AboutEnded, AboutAlerts}
}

// alarms are what nobody should stop being told of unseen.
func alarms() []string { return []string{AboutNotices, AboutAlerts} }

// ChannelFile names the channel at the server.
func (n Notification) ChannelFile() string {
	if n.Channel == "" {
		return n.Name
	}
	return n.Channel
}

// Each reports whether each user is told for himself.
func (n Notification) Each() bool { return n.Via == ViaMail }

// Tells reports whether the notification is about a topic.
func (n Notification) Tells(topic string) bool { return slices.Contains(n.About, topic) }

func (v *rules) notification(r *resource, n *Notification) {
	if len(v.c.Notifications) > MaxNotifications {
		v.add(r, "name", "too_many_entries", fmt.Sprintf("The catalog has more than %d notifications.", MaxNotifications), "Keep fewer.")
	}
	v.oneOf(r, "via", []string{n.Via}, ViaMail, ViaSlack, ViaTeams, ViaWebhook)
	if n.Channel != "" {
		if err := lockkeeper.CheckName(n.Channel); err != nil {
			v.add(r, "channel", "name_unfit", "The channel is unfit: "+clip(err.Error(), 200)+".", "Write the NAME of the server's file channel@NAME; addresses and secrets stand there.")
		}
	}
	v.bounded(r, "to", len(n.To), maxTold)
	for i, p := range n.To {
		path := fmt.Sprintf("to[%d]", i)
		switch p.Kind {
		case lockkeeper.UserPrincipal:
			v.reference(r, path, Key{Kind: UserKind, Name: p.Name})
		case lockkeeper.GroupPrincipal:
			v.reference(r, path, Key{Kind: GroupKind, Name: p.Name})
		default:
			v.add(r, path, "principal_unfit", "Only users and groups are told.", "Write user:NAME or group:NAME.")
		}
	}
	v.bounded(r, "about", len(n.About), len(NotificationTopics()))
	v.oneOf(r, "about", n.About, NotificationTopics()...)
	for i, topic := range n.Urgent {
		if !n.Tells(topic) {
			v.add(r, fmt.Sprintf("urgent[%d]", i), "topic_untold", name(topic)+" is not in about, so that it is not told at all.", "Add it to about, or take it out.")
		}
	}
	if n.Quiet != nil {
		v.zone(r, "quiet.zone", n.Quiet.Zone)
		v.bounded(r, "quiet.windows", len(n.Quiet.Windows), maxFreezeWindows)
		for i, w := range n.Quiet.Windows {
			v.freezeWindow(r, fmt.Sprintf("quiet.windows[%d]", i), w)
		}
	}
	if n.Digest != nil {
		v.digest(r, *n.Digest)
	}
}

func (v *rules) digest(r *resource, d Digest) {
	if (d.Every != 0) == (len(d.At) > 0) {
		v.add(r, "digest", "digest_unfit", "The digest says in no way when it is told, or in two.", "Write every: 30m, or at: [\"08:00\"] with a zone.")
		return
	}
	if d.Every != 0 {
		if t := time.Duration(d.Every); t < time.Minute || t > 24*time.Hour {
			v.add(r, "digest.every", "duration_out_of_bounds", fmt.Sprintf("The field digest.every is %s; it must be from 1m to 24h.", t), "Choose a length within these.")
		}
		if d.Zone != "" {
			v.add(r, "digest.zone", "zone_unused", "The zone is for times of day, and the digest has none.", "Take it out, or write at.")
		}
		return
	}
	v.zone(r, "digest.zone", d.Zone)
	v.bounded(r, "digest.at", len(d.At), maxDigests)
	for i, at := range d.At {
		if m, ok := ClockMinutes(at); !ok || m >= 24*60 {
			v.add(r, fmt.Sprintf("digest.at[%d]", i), "clock_unfit", name(at)+" is no time of day.", "Write it as \"08:00\".")
		}
	}
}

// notification reports alarms of which fewer are told, later, or elsewhere. What waits
// for somebody waits at the server whether he is told or not, so the rest weakens
// nothing.
func (w *weakening) notification(a, b Notification, is bool) {
	for _, topic := range alarms() {
		if !a.Tells(topic) {
			continue
		}
		if !is || !b.Tells(topic) {
			w.when(true, "nobody is told of %s by it any more", topic)
			continue
		}
		w.when(a.Via != b.Via || a.ChannelFile() != b.ChannelFile(), "%s are told through another channel", topic)
		for _, p := range a.To {
			w.when(!slices.Contains(b.To, p), "%s is no longer told of %s", p, topic)
		}
		w.when(!slices.Contains(b.Urgent, topic) && (slices.Contains(a.Urgent, topic) || spelled(b.Quiet) != spelled(a.Quiet) && b.Quiet != nil || spelled(b.Digest) != spelled(a.Digest) && b.Digest != nil),
			"%s may be told later", topic)
	}
}

// spelled writes out what a pointer leads to, to compare it.
func spelled[T any](p *T) string {
	if p == nil {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("%+v", *p))
}
