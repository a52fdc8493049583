package evidence

import (
	"bytes"
	"encoding/json"
	"strings"
)

// The predicate types of SLSA provenance that are understood.
const (
	slsaV1  = "https://slsa.dev/provenance/v1"
	slsaV02 = "https://slsa.dev/provenance/v0.2"
)

// maxSources bounds the sources of one provenance.
const maxSources = 64

// predicate keeps the predicate as compact JSON, and understands it if it is SLSA
// provenance.
func (a *Attested) predicate(c *cursor, at int) error {
	c.pos = at
	if err := c.skip(); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, c.data[at:c.pos]); err != nil {
		return c.fail(codeUnreadable, "The predicate is not JSON.")
	}
	if b.Len() > MaxPredicate {
		return c.fail(codeTooLarge, "The predicate has %d bytes, more than %d.", b.Len(), MaxPredicate).
			WithNext("Attest to what matters, and leave the rest to a file that the predicate names by digest.")
	}
	a.Predicate = b.Bytes()
	p := &provenance{c: c}
	var read func(key string) error
	switch a.PredicateType {
	case slsaV1:
		read = p.v1
	case slsaV02:
		read = p.v02
	default:
		return nil
	}
	if err := c.again(at, "predicate", func() error { return c.object(read) }); err != nil {
		return err
	}
	if p.out.Builder == "" || p.out.BuildType == "" {
		return refuse(codeUnreadable, "The provenance does not say which builder built, and how.").WithField("$.predicate")
	}
	if len(p.out.Sources) == 0 && p.config.Commit != "" {
		p.out.Sources = []Source{p.config}
	}
	a.Provenance = &p.out
	return nil
}

type provenance struct {
	c      *cursor
	out    Provenance
	config Source // invocation.configSource of v0.2, for builders that list no materials
}

func (p *provenance) v1(key string) error {
	c := p.c
	switch key {
	case "buildDefinition":
		return c.object(func(key string) error {
			switch key {
			case "buildType":
				return c.short(&p.out.BuildType)
			case "resolvedDependencies":
				return c.array(p.material)
			}
			return nil
		})
	case "runDetails":
		return c.object(func(key string) error {
			switch key {
			case "builder":
				return p.builder()
			case "metadata":
				return p.run("invocationId")
			}
			return nil
		})
	}
	return nil
}

func (p *provenance) v02(key string) error {
	c := p.c
	switch key {
	case "builder":
		return p.builder()
	case "buildType":
		return c.short(&p.out.BuildType)
	case "materials":
		return c.array(p.material)
	case "metadata":
		return p.run("buildInvocationId")
	case "invocation":
		return c.object(func(key string) error {
			if key != "configSource" {
				return nil
			}
			s, err := p.source()
			p.config = s
			return err
		})
	}
	return nil
}

func (p *provenance) builder() error {
	return p.c.object(func(key string) error {
		if key == "id" {
			return p.c.short(&p.out.Builder)
		}
		return nil
	})
}

func (p *provenance) run(member string) error {
	return p.c.object(func(key string) error {
		if key == member {
			return p.c.short(&p.out.Run)
		}
		return nil
	})
}

// material keeps what names a git commit.
func (p *provenance) material() error {
	s, err := p.source()
	if err != nil || s.Commit == "" {
		return err
	}
	if len(p.out.Sources) >= maxSources {
		return p.c.fail(codeTooLarge, "The provenance names more than %d sources.", maxSources)
	}
	p.out.Sources = append(p.out.Sources, s)
	return nil
}

// source reads a resource descriptor; its Commit is "" if it names no git commit:
// a digest gitCommit, or sha1 where the URI says git.
func (p *provenance) source() (Source, error) {
	c, uri, commit, sha1 := p.c, "", "", ""
	err := c.object(func(key string) error {
		switch key {
		case "uri":
			return c.short(&uri)
		case "digest":
			return c.object(func(key string) error {
				switch key {
				case "gitCommit":
					return c.short(&commit)
				case "sha1":
					return c.short(&sha1)
				}
				return nil
			})
		}
		return nil
	})
	if commit == "" && (strings.HasPrefix(uri, "git+") || strings.HasPrefix(uri, "git://")) {
		commit = sha1
	}
	if n := len(commit); n != 40 && n != 64 || strings.Trim(commit, "0123456789abcdef") != "" {
		commit = ""
	}
	return Source{Repository: repositoryOf(uri), Commit: commit}, err
}

// repositoryOf is a URI of SPDX's kind (git+https://host/path@ref#fragment) without
// git+, @ref and fragment.
func repositoryOf(uri string) string {
	uri = strings.TrimPrefix(uri, "git+")
	uri, _, _ = strings.Cut(uri, "#")
	scheme := strings.Index(uri, "://")
	if scheme < 0 {
		return uri
	}
	slash := strings.IndexByte(uri[scheme+3:], '/')
	if slash < 0 {
		return uri
	}
	slash += scheme + 3
	path, _, _ := strings.Cut(uri[slash:], "@") // an @ before the path belongs to the user
	return uri[:slash] + path
}
