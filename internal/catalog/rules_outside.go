package catalog

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// Bounds of checks that ask services.
const (
	maxQuery = 1000 // bytes of a query of metrics
	maxField = 80   // bytes of a field's name
)

// callCheck checks a check that asks a service.
func (v *rules) callCheck(r *resource, at string, e *Environment, c CallCheck) {
	v.anyCall(r, at+".service", c.Service)
	facts := CheckFacts()
	for _, p := range Places(c.Service.URL) {
		if _, past := PastPlace(p); past || parameterPlace(p) {
			facts = append(facts, p)
		}
	}
	v.callURL(r, at+".service.url", c.Service.URL, facts)
	if _, err := CompileCheckCriteria(c.Service.Criteria); err != nil {
		v.criteriaUnfit(r, at+".service.criteria", err)
	}
	if r.root.find(at+".service").field("within") != nil {
		v.add(r, at+".service.within", "within_unfit", "How long the service has is said of the check and not of the call.", "Write within beside service.")
	}
	if c.Callback && c.Service.Verb() != "POST" {
		v.add(r, at+".service.method", "callback_unfit", "A service that is to answer later is told where by a POST.", "Leave method out.")
	}
	if c.Callback && c.Steady != nil {
		v.add(r, at+".steady", "callback_unfit", "A service that answers once has no steady time.", "Leave steady out, or callback.")
	}
	v.outside(r, at, e, c)
}

// parameterPlace reports whether a place stands for a parameter of the ask.
func parameterPlace(place string) bool {
	name, is := strings.CutPrefix(place, ParameterFact(""))
	return is && lockkeeper.CheckParameters(map[string]string{name: "x"}) == nil
}

// outside checks what all checks that ask services have.
func (v *rules) outside(r *resource, at string, e *Environment, c CallCheck) {
	least := c.LeastValidity()
	if c.Callback {
		least = time.Minute
	}
	v.length(r, at, "validity", c.Validity, least, max(least, e.PatienceLimit()))
	v.length(r, at, "within", c.Within, 10*time.Second, e.PatienceLimit())
	if within := orDefault(c.Within, e.PatienceLimit()); !c.Callback && within > mostQuestions*c.Asks().RetryEvery() {
		v.add(r, at, "retry_unfit", fmt.Sprintf("Asking every %s for %s makes more than %d questions.", c.Asks().RetryEvery(), within, mostQuestions), "Ask less often with retry, or for a shorter time with within.")
	}
	s := c.Steady
	if s == nil {
		return
	}
	if r.root.find(at+".steady").field("answers") != nil && (s.Answers < 1 || s.Answers > mostAnswers) {
		v.add(r, at+".steady.answers", "count_out_of_bounds", fmt.Sprintf("The count of answers is %d; it must be from 1 to %d.", s.Answers, mostAnswers), "Say how many good answers in a row make it steady.")
	}
	v.length(r, at+".steady", "for", s.For, time.Second, min(mostSteady, e.PatienceLimit()))
	answers, lasting := c.Steadiness()
	if within := orDefault(c.Within, e.PatienceLimit()); max(lasting, time.Duration(answers-1)*c.Asks().RetryEvery()) >= within {
		v.add(r, at+".steady", "steady_never", fmt.Sprintf("What takes so long is never steady in %s.", within), "Ask for less, ask more often with retry, or give it more time with within.")
	}
	if *s == (Steady{}) {
		v.add(r, at+".steady", "steady_missing", "The steady time says nothing.", "Write answers, or for, or both.")
	}
}

// preset checks what a preset makes of itself: what it may leave open, and its times.
func (v *rules) preset(r *resource, at string, e *Environment, c CallCheck) {
	v.length(r, at, "retry", c.Service.Retry, 5*time.Second, 10*time.Minute)
	if c.Service.Token != nil {
		v.callToken(r, at+".token", *c.Service.Token)
	}
	v.outside(r, at, e, c)
}

// baseURL refuses what is no address of a service.
func (v *rules) baseURL(r *resource, at, text string) {
	reason := issuerUnfit(strings.TrimSuffix(text, "/"))
	if u, err := url.Parse(text); reason == "" && (err != nil || strings.ContainsAny(text, "{}") || u.RawQuery != "") {
		reason = "leaves something open"
	}
	if reason != "" {
		v.add(r, at, "url_unfit", "The URL "+reason+".", "Write one such as https://monitor.example.com.")
	}
}

// outside reports what a check that asks a service demands no more.
func (w *weakening) outside(a, b Check) {
	x, _ := a.Outside()
	y, _ := b.Outside()
	about := "for the check " + a.Name
	w.call(about, x.Asks(), y.Asks())
	w.when(x.Callback != y.Callback, "a service answers %s in another way", about)
	w.when(y.answers() < x.answers(), "the check %s asks for %d good answers in a row instead of %d", a.Name, y.answers(), x.answers())
	w.when(y.steadyFor() < x.steadyFor(), "the check %s asks for a steady time of %s instead of %s", a.Name, y.steadyFor(), x.steadyFor())
	w.when(y.ValidityLimit(maxPatience) > x.ValidityLimit(maxPatience), "a yes counts %s for %s instead of %s", about, y.ValidityLimit(maxPatience), x.ValidityLimit(maxPatience))
	if x.answers() > 1 || x.steadyFor() > 0 {
		was, is := x.Asks(), y.Asks()
		w.when(is.RetryEvery() < was.RetryEvery(), "so many good answers %s take less time: it is asked every %s instead of %s", about, is.RetryEvery(), was.RetryEvery())
		w.when(y.LeastValidity() > x.LeastValidity(), "an answer %s is missing after %s instead of %s", about, y.LeastValidity(), x.LeastValidity())
	}
	w.when(longer(x.Within, y.Within), "the check %s waits for longer", a.Name)
}

func (c CallCheck) answers() int {
	if c.Steady == nil {
		return 1
	}
	return max(1, c.Steady.Answers)
}

func (c CallCheck) steadyFor() time.Duration {
	if c.Steady == nil {
		return 0
	}
	return time.Duration(c.Steady.For)
}

// Steadiness is what makes the service's yes steady: so many answers in a row, for so
// long.
func (c CallCheck) Steadiness() (answers int, lasting time.Duration) {
	return c.answers(), c.steadyFor()
}
