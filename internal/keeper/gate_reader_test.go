package keeper

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// A gateReader follows the journal and knows the invariants that can be told from it alone.
type gateReader struct {
	leases   map[string]map[string]lockkeeper.Moment // by environment: ends, by deployment
	where    map[string]string
	granted  map[string]map[string]bool // by deployment: overrides that were granted and not closed
	overs    map[string][]string        // what an override waives
	digests  map[string]lockkeeper.Digest
	released map[string]bool // holds
}

func newGateReader() *gateReader {
	return &gateReader{leases: map[string]map[string]lockkeeper.Moment{}, where: map[string]string{}, granted: map[string]map[string]bool{}, overs: map[string][]string{}, digests: map[string]lockkeeper.Digest{}, released: map[string]bool{}}
}

func (r *gateReader) take(e Entry, ev event) error {
	switch ev := ev.(type) {
	case *deploymentOpened:
		r.where[ev.ID], r.digests[ev.ID] = ev.Ask.Environment, ev.Digest
	case *deploymentApproved:
		if ev.Digest != r.digests[ev.ID] {
			return errors.New("an approval of something else (gates 1)")
		}
	case *overrideRequested:
		r.overs[ev.Override.ID] = ev.Override.Waives
	case *overrideGranted:
		if r.granted[ev.Deployment] == nil {
			r.granted[ev.Deployment] = map[string]bool{}
		}
		r.granted[ev.Deployment][ev.ID] = true
	case *overrideClosed:
		delete(r.granted[ev.Deployment], ev.ID)
	case *leaseGranted:
		env := r.where[ev.Deployment]
		for id, ends := range r.leases[env] {
			if e.Time.Before(ends) && env == "production" {
				return fmt.Errorf("a lease beside that of %s (gates 20)", id)
			}
			if env == "production" {
				return fmt.Errorf("a lease before the end of %s is written down (gates 24)", id)
			}
		}
		if ev.Digest != r.digests[ev.Deployment] {
			return errors.New("a lease for another ask (gates 1)")
		}
		for _, check := range waivedSubjects(ev.Gate) {
			if check != "check office" || len(r.granted[ev.Deployment]) == 0 {
				return fmt.Errorf("%s is waived, by %v (gates 28)", check, r.granted[ev.Deployment])
			}
		}
		if r.leases[env] == nil {
			r.leases[env] = map[string]lockkeeper.Moment{}
		}
		r.leases[env][ev.Deployment] = ev.Ends
	case *leaseRenewed:
		if ends := r.leases[r.where[ev.Deployment]][ev.Deployment]; !e.Time.Before(ends) {
			return errors.New("a dead lease is renewed (gates 20)")
		}
		r.leases[r.where[ev.Deployment]][ev.Deployment] = ev.Ends
	case *tokenGranted:
		ends, lives := r.leases[r.where[ev.Deployment]][ev.Deployment]
		if !lives || !e.Time.Before(ends) || ends.Before(ev.Expires) {
			return errors.New("a token without a lease, or beyond it (gates 4)")
		}
	case *holdReleased:
		r.released[ev.ID] = true
	case *holdAnswered:
		if ev.Approve && !r.released[ev.ID] {
			return errors.New("a platform was told yes without a release (gates 17)")
		}
	case *deploymentEnded:
		if ends, held := r.leases[r.where[ev.ID]][ev.ID]; held && ev.End.Status == Succeeded && !e.Time.Before(ends) {
			return errors.New("a success after the lease (gates 24)")
		}
		delete(r.leases[r.where[ev.ID]], ev.ID)
	}
	return nil
}

func waivedSubjects(d lockkeeper.Decision) []string {
	if d.Code == "waived" {
		return []string{d.Subject}
	}
	var out []string
	for _, b := range d.Because {
		for _, s := range waivedSubjects(b) {
			if strings.HasPrefix(s, "check ") && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}
