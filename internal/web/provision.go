package web

import (
	"context"
	"net/http"
	"time"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/prometheus/client_golang/prometheus"
)

// registerProvisioning is the table of what people do about what directories write.
func (s *Server) registerProvisioning() {
	route(s, http.MethodGet, "/directories/written", "directories-written", "The directories, and what they write with SCIM", s.provisioning)
	route(s, http.MethodPost, "/directories/{name}/tokens", "make-directory-token", "Make a token with which a directory writes", s.makeDirectoryToken)
	route(s, http.MethodDelete, "/directories/{name}/tokens/{id}", "end-directory-token", "Take a directory's token away", s.endDirectoryToken)
}

func (s *Server) provisioning(_ context.Context, in *Credential) (*reply[api.WritingDirectories], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	list, err := s.Keeper.Directories(by)
	out := api.WritingDirectories{Directories: []api.WritingDirectory{}}
	for _, d := range list {
		one := api.WritingDirectory{Name: d.Name, Platform: d.Platform, Writes: d.Scim, Tokens: []api.DirectoryToken{}, Users: d.Users, Off: d.Off, Groups: d.Groups, Believed: d.Believed}
		for _, t := range d.Tokens {
			one.Tokens = append(one.Tokens, renderDirectoryToken(t))
		}
		out.Directories = append(out.Directories, one)
	}
	return &reply[api.WritingDirectories]{out}, err
}

func renderDirectoryToken(t keeper.WriteToken) api.DirectoryToken {
	return api.DirectoryToken{ID: t.ID, By: t.By, Since: t.Since, Expires: t.Expires}
}

func (s *Server) makeDirectoryToken(ctx context.Context, in *struct {
	Credential
	Name string `path:"name" maxLength:"63"`
	Body api.MakeDirectoryToken
}) (*reply[api.MadeDirectoryToken], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	secret, t, err := s.Keeper.MakeDirectoryToken(ctx, by, in.Name, time.Duration(in.Body.Seconds)*time.Second)
	return &reply[api.MadeDirectoryToken]{api.MadeDirectoryToken{DirectoryToken: renderDirectoryToken(t), Secret: secret, URL: s.URL + "/scim/v2"}}, err
}

func (s *Server) endDirectoryToken(ctx context.Context, in *struct {
	Credential
	Name string `path:"name" maxLength:"63"`
	ID   string `path:"id" maxLength:"63"`
}) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.EndDirectoryToken(ctx, by, in.Name, in.ID)
}

// writeEnds is a metric: when each directory can write no more. Past it nobody is
// switched off any more.
type writeEnds struct{ keeper *keeper.Keeper }

var writeEndsDesc = prometheus.NewDesc("lockkeeper_directory_token_end_seconds", "When the last token ends with which a directory may write (SCIM), in seconds since 1970; 0: it has none.", []string{"directory"}, nil)

func (writeEnds) Describe(to chan<- *prometheus.Desc) { to <- writeEndsDesc }
func (m writeEnds) Collect(to chan<- prometheus.Metric) {
	for name, at := range m.keeper.WriteEnds() {
		seconds := 0.0
		if !at.IsZero() {
			seconds = float64(at.Time().Unix())
		}
		to <- prometheus.MustNewConstMetric(writeEndsDesc, prometheus.GaugeValue, seconds, name)
	}
}
