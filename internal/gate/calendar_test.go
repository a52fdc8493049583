package gate

import (
	"fmt"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

// oddZones are zones with a year in which their clocks did something that is easy to
// get wrong.
var oddZones = []struct {
	zone string
	year int
}{
	{"Europe/Zurich", 2026}, {"Europe/London", 2027}, {"America/New_York", 2026}, {"UTC", 2024}, {"Asia/Kathmandu", 2026},
	{"Australia/Lord_Howe", 2026},  // half an hour of daylight saving
	{"Pacific/Apia", 2011},         // 30 December never was
	{"Pacific/Kwajalein", 1993},    // 21 August never was
	{"America/Sao_Paulo", 2018},    // changed at midnight
	{"Africa/Cairo", 2010},         // four changes in a year
	{"Antarctica/Troll", 2026},     // two hours of daylight saving
	{"Africa/Casablanca", 2026},    // saves in winter
	{"America/Caracas", 2016},      // moved by half an hour
	{"Asia/Pyongyang", 2018},       // moved by half an hour, shortly before midnight
	{"America/St_Johns", 2010},     // changed at one minute past midnight
	{"America/Scoresbysund", 2024}, // changed its offset and its saving together
}

// wallModel knows, for every minute of three years, what the clock on the wall shows:
// the latest that it has shown up to then, and the earliest that it will show from
// then on.
type wallModel struct {
	start   int64 // minutes since 1970
	highest []int64
	lowest  []int64
}

func newWallModel(t interface{ Fatal(...any) }, zone string, year int) *wallModel {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(year-1, 10, 1, 0, 0, 0, 0, time.UTC).Unix() / 60
	to := time.Date(year+1, 3, 1, 0, 0, 0, 0, time.UTC).Unix() / 60
	m := &wallModel{start: from, highest: make([]int64, to-from), lowest: make([]int64, to-from)}
	for i := range m.highest {
		l := time.Unix((from+int64(i))*60, 0).In(loc)
		m.highest[i] = time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), 0, 0, time.UTC).Unix() / 60
		m.lowest[i] = m.highest[i]
	}
	for i := 1; i < len(m.highest); i++ {
		m.highest[i] = max(m.highest[i], m.highest[i-1])
	}
	for i := len(m.lowest) - 2; i >= 0; i-- {
		m.lowest[i] = min(m.lowest[i], m.lowest[i+1])
	}
	return m
}

// frozen marks the minutes in which a freeze holds: those at which its zone's clock
// has shown a window's beginning and will still show less than its end.
func (m *wallModel) frozen(f catalog.Freeze) []bool {
	out := make([]bool, len(m.highest))
	for _, w := range f.Windows {
		from, to, _ := w.Span()
		first := time.Unix(m.start*60, 0).UTC().AddDate(0, 0, 1)
		for day := time.Date(first.Year(), first.Month(), first.Day(), 0, 0, 0, 0, time.UTC); day.Unix()/60 < m.start+int64(len(out)); day = day.AddDate(0, 0, 1) {
			starts := slices.Contains(w.Days, []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}[day.Weekday()]) ||
				slices.Contains(w.MonthDays, fmt.Sprint(day.Day())) || slices.Contains(w.MonthDays, "last") && day.AddDate(0, 0, 1).Month() != day.Month() ||
				slices.Contains(w.Dates, fmt.Sprintf("%02d-%02d", day.Month(), day.Day()))
			if !starts || slices.Contains(f.Except, day.Format(time.DateOnly)) {
				continue
			}
			begin, end := day.Unix()/60+int64(from), day.Unix()/60+int64(to)
			i := sort.Search(len(out), func(i int) bool { return m.highest[i] >= begin })
			for ; i < len(out) && m.lowest[i] < end; i++ {
				at := lockkeeper.MomentOf(time.Unix((m.start+int64(i))*60, 0))
				out[i] = out[i] || !at.Before(f.From) && (f.Until.IsZero() || at.Before(f.Until))
			}
		}
	}
	return out
}

func drawWindow(t *rapid.T, year int) catalog.FreezeWindow {
	clock := func(label string, more ...string) string {
		odd := append([]string{"00:00", "00:01", "00:30", "01:00", "01:30", "02:00", "02:15", "02:30", "03:00", "23:30", "23:59"}, more...)
		if rapid.Bool().Draw(t, label+" odd") {
			return rapid.SampledFrom(odd).Draw(t, label)
		}
		m := rapid.IntRange(1, 24*60-1).Draw(t, label)
		return fmt.Sprintf("%02d:%02d", m/60, m%60)
	}
	w := catalog.FreezeWindow{From: clock("from"), To: clock("to", "24:00"), Nights: rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 10, 31}).Draw(t, "nights")}
	if w.To == "00:00" && w.Nights == 0 {
		w.To = "24:00"
	}
	if rapid.Bool().Draw(t, "all day") {
		w.From, w.To = "", ""
	}
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 0:
		w.Days = rapid.SliceOfNDistinct(rapid.SampledFrom(catalog.Weekdays()), 1, 7, rapid.ID[string]).Draw(t, "days")
	case 1:
		w.MonthDays = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"1", "13", "28", "29", "30", "31", "last"}), 1, 4, rapid.ID[string]).Draw(t, "month days")
	default:
		day := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(0, 364).Draw(t, "date"))
		w.Dates = []string{day.Format("01-02"), "02-29", "12-30"}
	}
	return w
}

// Recurring freezes hold exactly in the minutes of the model, over a year, in zones
// whose clocks skip and repeat half an hour, an hour, two, or a day; and what is said
// of an instant is what the model says of it.
func TestFreezesByTheMinute(t *testing.T) {
	models := map[string]*wallModel{}
	rapid.Check(t, func(t *rapid.T) {
		z := rapid.SampledFrom(oddZones).Draw(t, "zone")
		m := models[z.zone]
		if m == nil {
			m = newWallModel(t, z.zone, z.year)
			models[z.zone] = m
		}
		f := catalog.Freeze{Zone: z.zone}
		for range rapid.IntRange(1, 3).Draw(t, "windows") {
			f.Windows = append(f.Windows, drawWindow(t, z.year))
		}
		for range rapid.IntRange(0, 3).Draw(t, "exceptions") {
			f.Except = append(f.Except, time.Date(z.year, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(0, 364).Draw(t, "except")).Format(time.DateOnly))
		}
		year := lockkeeper.MomentOf(time.Date(z.year, 1, 1, 0, 0, 0, 0, time.UTC))
		if rapid.Bool().Draw(t, "bounded") {
			f.From = year.Add(time.Duration(rapid.IntRange(0, 200*24*60).Draw(t, "bound from")) * time.Minute)
			f.Until = f.From.Add(time.Duration(rapid.IntRange(1, 200*24*60).Draw(t, "bound until")) * time.Minute)
		}
		want := m.frozen(f)
		from, to := year.Time().Unix()/60, time.Date(z.year+1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()/60
		got := make([]bool, len(want))
		spans, err := Spans(f, year, lockkeeper.MomentOf(time.Unix(to*60, 0)))
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range spans {
			if i > 0 && !spans[i-1].Until.Before(s.From) || !s.From.Before(s.Until) {
				t.Fatalf("the spans are not apart and in order: %v", spans)
			}
			for at := max(s.From.Time().Unix()/60, m.start); at < min(s.Until.Time().Unix()/60, m.start+int64(len(got))); at++ {
				got[at-m.start] = true
			}
		}
		for at := from; at < to; at++ {
			if got[at-m.start] != want[at-m.start] {
				t.Fatalf("in %s at %s: frozen %v, and the model says %v\n%+v", z.zone, time.Unix(at*60, 0).In(location(z.zone)), got[at-m.start], want[at-m.start], f)
			}
		}
		for range 20 {
			at := rapid.Int64Range(from, to-1).Draw(t, "at")
			checkInstant(t, f, m, want, at)
		}
	})
}

func location(zone string) *time.Location {
	l, _ := time.LoadLocation(zone)
	return l
}

// checkInstant compares what is said of one instant with the model.
func checkInstant(t *rapid.T, f catalog.Freeze, m *wallModel, want []bool, at int64) {
	const horizon = 20 * 24 * 60
	now := lockkeeper.MomentOf(time.Unix(at*60, 0))
	holds, s, err := FrozenAt(f, now, horizon*time.Minute)
	if err != nil || holds != want[at-m.start] {
		t.Fatalf("at %s: holds %v, %v; the model says %v", now, holds, err, want[at-m.start])
	}
	change := at
	for change < at+horizon && want[change-m.start] == holds {
		change++
	}
	said := s.Until
	if !holds {
		said = s.From
	}
	if change == at+horizon {
		if holds && !said.IsZero() && said.Before(now.Add(horizon*time.Minute)) || !holds && !said.IsZero() {
			t.Fatalf("at %s: a change at %s, and the model knows none", now, said)
		}
	} else if said != lockkeeper.MomentOf(time.Unix(change*60, 0)) {
		t.Fatalf("at %s: the change is at %s, and the model says %s", now, said, time.Unix(change*60, 0).UTC())
	}
}

// The rules at a change of the clocks, spelled out.
func TestFreezesAtClockChanges(t *testing.T) {
	window := func(date, from, to string, nights int) []catalog.FreezeWindow {
		return []catalog.FreezeWindow{{Dates: []string{date}, From: from, To: to, Nights: nights}}
	}
	for _, c := range []struct {
		name, zone string
		year       int
		windows    []catalog.FreezeWindow
		want       []string
	}{
		{"a beginning that is skipped is the change", "Europe/Zurich", 2026, window("03-29", "02:30", "04:00", 0), []string{"2026-03-29T01:00Z 2026-03-29T02:00Z"}},
		{"an end that is skipped is the change", "Europe/Zurich", 2026, window("03-29", "01:00", "02:30", 0), []string{"2026-03-29T00:00Z 2026-03-29T01:00Z"}},
		{"a window that is skipped whole never was", "Europe/Zurich", 2026, window("03-29", "02:00", "03:00", 0), nil},
		{"a beginning that is repeated is the first", "Europe/Zurich", 2026, window("10-25", "02:30", "04:00", 0), []string{"2026-10-25T00:30Z 2026-10-25T03:00Z"}},
		{"an end that is repeated is the second", "Europe/Zurich", 2026, window("10-25", "01:00", "02:30", 0), []string{"2026-10-24T23:00Z 2026-10-25T01:30Z"}},
		{"half an hour", "Australia/Lord_Howe", 2026, window("04-05", "01:45", "02:00", 0), []string{"2026-04-04T14:45Z 2026-04-04T15:30Z"}},
		{"a day that never was has no window", "Pacific/Apia", 2011, window("12-30", "", "", 0), nil},
		{"a window over a day that never was", "Pacific/Apia", 2011, window("12-29", "18:00", "08:00", 3), []string{"2011-12-30T04:00Z 2011-12-31T18:00Z"}},
		{"a beginning on a day that never was", "Pacific/Apia", 2011, window("12-30", "18:00", "08:00", 3), []string{"2011-12-30T10:00Z 2012-01-01T18:00Z"}},
		{"a leap day", "UTC", 2028, window("02-29", "", "", 0), []string{"2028-02-29T00:00Z 2028-03-01T00:00Z"}},
		{"no leap day", "UTC", 2026, window("02-29", "", "", 0), nil},
		{"the last of a month", "UTC", 2026, []catalog.FreezeWindow{{MonthDays: []string{"last"}, From: "22:00", To: "02:00"}}, []string{"2026-01-31T22:00Z 2026-02-01T02:00Z"}},
	} {
		from := lockkeeper.MomentOf(time.Date(c.year, 1, 15, 0, 0, 0, 0, time.UTC))
		got, err := Spans(catalog.Freeze{Zone: c.zone, Windows: c.windows}, from, from.Add(365*24*time.Hour))
		var spelled []string
		for _, s := range got {
			spelled = append(spelled, s.From.Time().Format("2006-01-02T15:04Z")+" "+s.Until.Time().Format("2006-01-02T15:04Z"))
		}
		if spelled = spelled[:min(len(spelled), max(len(c.want), 1))]; err != nil || !slices.Equal(spelled, c.want) {
			t.Errorf("%s: %v, want %v", c.name, spelled, c.want)
		}
	}
	if _, err := Spans(catalog.Freeze{Zone: "Europe/Zuerich", Windows: window("01-01", "", "", 0)}, lockkeeper.Moment{}, lockkeeper.Moment{}); err == nil {
		t.Error("a zone that nobody knows is judged")
	}
}
