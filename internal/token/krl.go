package token

import (
	"encoding/binary"
	"slices"
	"time"
)

// The numbers of PROTOCOL.krl of OpenSSH that are used here.
const (
	krlMagic        = 0x5353484b524c0a00 // "SSHKRL\n\0"
	krlFormat       = 1
	krlCertificates = 1    // a section about certificates
	krlSerials      = 0x20 // in it, a list of serial numbers
)

// KRL is a Key Revocation List of OpenSSH (PROTOCOL.krl, format version 1) that revokes
// certificates by their serial numbers, for sshd's RevokedKeys. version grows with each
// list; 0 is no serial number and is left out. The list names no authority, so that it
// holds for certificates of one whose key was replaced, too; it is not signed, which
// sshd does not look at any more, so that who fetches it must know from whom.
func KRL(version uint64, made time.Time, comment string, serials []uint64) []byte {
	out := binary.BigEndian.AppendUint64(nil, krlMagic)
	out = binary.BigEndian.AppendUint32(out, krlFormat)
	out = binary.BigEndian.AppendUint64(out, version)
	out = binary.BigEndian.AppendUint64(out, uint64(made.Unix()))
	out = binary.BigEndian.AppendUint64(out, 0) // flags: none are defined
	out = sshString(out, nil)                   // reserved
	out = sshString(out, []byte(comment))
	serials = slices.Clone(serials)
	slices.Sort(serials)
	var list []byte
	for _, s := range slices.Compact(serials) {
		if s != 0 {
			list = binary.BigEndian.AppendUint64(list, s)
		}
	}
	if len(list) == 0 {
		return out // a section must hold something
	}
	section := sshString(nil, nil) // of any authority
	section = sshString(section, nil)
	section = append(section, krlSerials)
	section = sshString(section, list)
	return sshString(append(out, krlCertificates), section)
}

// sshString appends a string as RFC 4251, section 5, writes it.
func sshString(to, s []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(s))), s...)
}
