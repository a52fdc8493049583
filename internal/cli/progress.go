package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"golang.org/x/term"
)

// A progress shows how a gate stands: on a terminal as a list that changes in
// place, elsewhere as a line whenever something differs.
type progress struct {
	w     io.Writer
	live  bool
	width int
	lines int // drawn and not finished
	shown string
	began time.Time
}

func (a *app) progress() *progress {
	p := &progress{w: a.err, began: time.Now()}
	if f, ok := a.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("CI") == "" && os.Getenv("TERM") != "dumb" {
		p.live = true
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			p.width = width
		}
	}
	return p
}

func (p *progress) gate(d lockkeeper.Decision) {
	if !p.live {
		if s := waitingLine(d); s != p.shown {
			fmt.Fprintln(p.w, s)
			p.shown = s
		}
		return
	}
	lines := []string{fmt.Sprintf("%s, for %s", printable(d.Subject), time.Since(p.began).Round(time.Second))}
	for _, b := range d.Because {
		mark := map[lockkeeper.Verdict]string{lockkeeper.Pass: "\x1b[32m✓\x1b[0m", lockkeeper.Wait: "\x1b[33m…\x1b[0m"}[b.Verdict]
		if mark == "" {
			mark = "\x1b[31m✗\x1b[0m"
		}
		lines = append(lines, "  "+mark+" "+p.fit(printable(b.Subject+": "+b.Sentence), 4))
		if b.Verdict == lockkeeper.Wait && b.Next != "" && b.Code != "lock_later" {
			lines = append(lines, "    \x1b[2m"+p.fit(printable(b.Next), 4)+"\x1b[0m")
		}
	}
	var s strings.Builder
	if p.lines > 0 {
		fmt.Fprintf(&s, "\x1b[%dA\x1b[J", p.lines) // up, and clear what was drawn
	}
	s.WriteString(strings.Join(lines, "\n") + "\n")
	io.WriteString(p.w, s.String()) // a terminal that is gone shows nothing
	p.lines = len(lines)
}

// fit cuts a line so that it takes one row: the list is redrawn by rows.
func (p *progress) fit(s string, indent int) string {
	runes := []rune(s)
	if most := p.width - indent - 1; p.width > 0 && len(runes) > most && most > 1 {
		return string(runes[:most-1]) + "…"
	}
	return s
}

// end leaves what was drawn as it stands.
func (p *progress) end() { p.lines = 0 }
