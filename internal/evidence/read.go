package evidence

import (
	"bytes"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lockkeeper/lockkeeper"
)

// The codes of what is refused. Every refusal of this package is of the kind
// lockkeeper.Invalid and names the line and the place in the document.
const (
	codeUnreadable    = "evidence_unreadable"    // not what its format demands
	codeFormat        = "evidence_format"        // of no format that is read for this kind
	codeEncoding      = "evidence_encoding"      // compressed, or not UTF-8
	codeTooLarge      = "evidence_too_large"     // exceeds a bound
	codeEmpty         = "evidence_empty"         // speaks of nothing
	codeContradictory = "evidence_contradictory" // says of itself what its content denies
	codeElsewhere     = "evidence_elsewhere"     // its content is in other files
	codeNoReason      = "evidence_no_reason"     // not_affected without a justification
	codeSubject       = "evidence_subject"       // no SHA-256 digest of what it is about
	codeUnsigned      = "evidence_unsigned"      // no good signature of a given signer
	codeSigner        = "evidence_signer"        // a signer whose key or trust root cannot be used
)

const asWritten = "Bring the document as its tool wrote it, whole and unpacked."

func refuse(code, format string, args ...any) *lockkeeper.Refusal {
	return lockkeeper.Invalid.Errorf(code, format, args...).WithNext(asWritten)
}

// Read reads a document of the kind. The format is found in the content and not in a
// file's name. The signers are who is believed of attestations; other kinds ignore
// them. The summary does not refer to content. Every error is a refusal of the kind
// lockkeeper.Invalid.
func Read(kind Kind, content []byte, signers []Signer) (Summary, error) {
	if !slices.Contains(Kinds(), kind) {
		return Summary{}, refuse("evidence_kind", "There is no evidence of the kind %.80q.", kind).WithNext("The kinds are %s.", kindList())
	}
	content, err := plain(content)
	if err != nil {
		return Summary{}, err
	}
	s, err := readers[kind](content, signers)
	if err != nil {
		return Summary{}, err
	}
	s.Kind = kind
	s.Tool = clip(s.Tool)
	if s.Subjects, err = subjects(s.Subjects); err != nil {
		return Summary{}, err
	}
	return s, nil
}

var readers = map[Kind]func([]byte, []Signer) (Summary, error){
	Tests:           unsigned(readTests),
	Coverage:        unsigned(readCoverage),
	Scan:            unsigned(readSARIF),
	SBOM:            unsigned(readSBOM),
	Vulnerabilities: unsigned(readVulnerabilities),
	VEX:             unsigned(readVEX),
	Attestation:     readAttestation,
	Plan:            unsigned(readPlan),
}

func unsigned(f func([]byte) (Summary, error)) func([]byte, []Signer) (Summary, error) {
	return func(content []byte, _ []Signer) (Summary, error) { return f(content) }
}

func kindList() string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// packed says how files begin that hold others.
var packed = []struct{ magic, name string }{
	{"\x1f\x8b", "gzip"}, {"PK\x03\x04", "a zip archive"}, {"PK\x05\x06", "a zip archive"}, {"\x28\xb5\x2f\xfd", "zstd"},
	{"BZh", "bzip2"}, {"\xfd7zXZ", "xz"}, {"7z\xbc\xaf", "a 7z archive"},
}

// plain is the content without the byte order mark of UTF-8. It refuses what is
// empty, too large, packed, or not UTF-8.
func plain(content []byte) ([]byte, error) {
	if len(content) > MaxDocument {
		return nil, refuse(codeTooLarge, "The document has %d bytes, more than %d.", len(content), MaxDocument).
			WithNext("Split it by suite or module, or leave out what its tool can leave out.")
	}
	for _, p := range packed {
		if bytes.HasPrefix(content, []byte(p.magic)) {
			return nil, refuse(codeEncoding, "The document is %s; nothing is unpacked here.", p.name)
		}
	}
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(content, []byte(mark)) {
			return nil, refuse(codeEncoding, "The document is UTF-16.").WithNext("Write it as UTF-8.")
		}
	}
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(content) {
		at := 0
		for rest := content; ; {
			r, n := utf8.DecodeRune(rest)
			if r == utf8.RuneError && n == 1 {
				break
			}
			at, rest = at+n, rest[n:]
		}
		return nil, refuse(codeEncoding, "The document is not UTF-8 at byte %d.", at).WithField(lineOf(content, at)).WithNext("Write it as UTF-8.")
	}
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, refuse(codeEmpty, "The document is empty.")
	}
	return content, nil
}

// clip cuts a text that is kept to MaxText bytes.
func clip(s string) string {
	if len(s) <= MaxText {
		return strings.Clone(s)
	}
	cut := MaxText - len("…")
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// subjects sorts the digests and takes out what stands twice.
func subjects(list []lockkeeper.Digest) ([]lockkeeper.Digest, error) {
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) > MaxSubjects {
		return nil, refuse(codeTooLarge, "The document is about %d digests, more than %d.", len(list), MaxSubjects)
	}
	return list, nil
}

// named keeps the first MaxNamed names.
func named(list []string, name string) []string {
	if len(list) < MaxNamed {
		list = append(list, clip(name))
	}
	return list
}

// moment reads RFC 3339. What says no zone says no instant, and is zero, as is
// everything else: an age that is not known is the gate's to judge.
func moment(s string) lockkeeper.Moment {
	t, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(s))
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		return lockkeeper.Moment{}
	}
	return lockkeeper.MomentOf(t)
}

// tool joins a name and a version.
func tool(name, version string) string {
	return strings.TrimSpace(name + " " + version)
}
