package evidence

import (
	"net/url"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// A purl is a package URL, normalised as far as two spellings of one package are
// compared (package-url/purl-spec).
type purl struct {
	kind, name, version, subpath string // name with its namespace
	qualifiers                   []string
}

// folds are the types whose names do not tell upper from lower case.
var folds = []string{"alpm", "apk", "bitbucket", "composer", "deb", "github", "hex", "npm", "pypi"}

func parsePURL(s string) (purl, bool) {
	rest, ok := strings.CutPrefix(s, "pkg:")
	if !ok || len(s) > 4096 {
		return purl{}, false
	}
	rest = strings.TrimLeft(rest, "/")
	var p purl
	rest, p.subpath, _ = strings.Cut(rest, "#")
	p.subpath = strings.Trim(p.subpath, "/")
	rest, quals, _ := strings.Cut(rest, "?")
	for _, q := range strings.Split(quals, "&") {
		if key, value, _ := strings.Cut(q, "="); key != "" && value != "" {
			v, err := url.PathUnescape(value)
			if err != nil {
				return purl{}, false
			}
			p.qualifiers = append(p.qualifiers, strings.ToLower(key)+"="+v)
		}
	}
	slices.Sort(p.qualifiers)
	p.kind, p.name, ok = strings.Cut(rest, "/")
	if at := strings.LastIndexByte(p.name, '@'); at > 0 && p.name[at-1] != '/' {
		p.name, p.version = p.name[:at], p.name[at+1:]
	}
	var err1, err2 error
	p.name, err1 = url.PathUnescape(strings.Trim(p.name, "/"))
	p.version, err2 = url.PathUnescape(p.version)
	p.kind = strings.ToLower(p.kind)
	if slices.Contains(folds, p.kind) {
		p.name = strings.ToLower(p.name)
	}
	if p.kind == "pypi" {
		p.name = strings.ReplaceAll(p.name, "_", "-")
	}
	return p, ok && p.kind != "" && p.name != "" && err1 == nil && err2 == nil
}

// covers says whether o is among the packages that p names: the same type and name,
// the same version unless p has none, and every qualifier of p (OpenVEX 0.2.0,
// "Product Matching").
func (p purl) covers(o purl) bool {
	if p.kind != o.kind || p.name != o.name || p.version != "" && p.version != o.version || p.subpath != "" && p.subpath != o.subpath {
		return false
	}
	for _, q := range p.qualifiers {
		if !slices.Contains(o.qualifiers, q) {
			return false
		}
	}
	return true
}

// digest is the SHA-256 of an image that the version of its purl is (pkg:oci).
func (p purl) digest() (lockkeeper.Digest, bool) {
	if p.kind != "oci" && p.kind != "docker" {
		return "", false
	}
	d, err := lockkeeper.ParseDigest(p.version)
	return d, err == nil
}

// digestIn is the digest in a package URL of an image, a digest itself, or a
// reference that ends in @sha256:….
func digestIn(s string) (lockkeeper.Digest, bool) {
	if p, ok := parsePURL(s); ok {
		return p.digest()
	}
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		s = s[at+1:]
	}
	d, err := lockkeeper.ParseDigest(s)
	return d, err == nil
}
