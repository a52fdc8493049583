package keeper

import (
	"maps"
	"slices"
	"strconv"

	"github.com/lockkeeper/lockkeeper"
)

// A HandedCertificate is one that was signed, or was about to be, for the hosts of a
// provisioner and has not ended. Hosts learn from the list of the revoked ones which of
// these count no more.
type HandedCertificate struct {
	Serial      uint64            `json:"serial"`
	Duty        string            `json:"duty"`
	Provisioner string            `json:"provisioner"`
	Until       lockkeeper.Moment `json:"until"`
}

// maxCertificates bounds the certificates that have not ended. Past it none is handed
// out: each must be revocable.
const maxCertificates = 20_000

// handed remembers a certificate, and forgets those that have ended by themselves.
func (s *State) handed(c HandedCertificate, at lockkeeper.Moment) {
	maps.DeleteFunc(s.Certificates, func(_ string, o HandedCertificate) bool { return !at.Before(o.Until) })
	s.Certificates[strconv.FormatUint(c.Serial, 10)] = c
}

// certificatesFull refuses one certificate more than can be revoked.
func (w *world) certificatesFull(now lockkeeper.Moment) error {
	alive := 0
	for _, c := range w.Certificates {
		if now.Before(c.Until) {
			alive++
		}
	}
	if alive >= maxCertificates {
		return lockkeeper.Limited.Errorf("credentials_many", "%d certificates that were handed out have not ended.", alive).WithNext("Ask again in a few minutes; a shorter lifetime of the provisioner lets more people in.")
	}
	return nil
}

// revokedSerials are the serial numbers of the certificates of a provisioner that count no
// more before their own end: what gave them is over. It is arithmetic: no worker has to
// do anything, and nothing lengthens it.
func (w *world) revokedSerials(provisioner string, now lockkeeper.Moment) []uint64 {
	over := map[string]bool{} // by duty
	var out []uint64
	for _, c := range w.Certificates {
		if c.Provisioner != provisioner || !now.Before(c.Until) {
			continue
		}
		gone, known := over[c.Duty]
		if !known {
			d := w.Duties[c.Duty]
			gone = d == nil || w.finished(d, now)
			over[c.Duty] = gone
		}
		if gone {
			out = append(out, c.Serial)
		}
	}
	slices.Sort(out)
	return out
}

// RevokedCertificates are the serial numbers of the certificates of a provisioner that
// hosts must take no more, and a number that grows with each change of anything. It
// takes no right: hosts ask, and a serial number tells nobody who holds it. NotFound
// provisioner_missing: there is none that makes certificates.
func (k *Keeper) RevokedCertificates(provisioner string) (serials []uint64, version uint64, at lockkeeper.Moment, err error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	serials = w.revokedSerials(provisioner, now)
	if w.rules.Catalog.Provisioners[provisioner].SSH == nil && len(serials) == 0 {
		return nil, 0, now, lockkeeper.NotFound.Errorf("provisioner_missing", "There is no provisioner %.40q that makes certificates.", provisioner).WithNext("Name one of the catalog with ssh.")
	}
	return serials, uint64(k.state.Size), now, nil
}
