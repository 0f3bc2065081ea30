package meta

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// momentLetters are the letters that mean something in a format of moment.js
// ("Display", "Format"). Those that are not in momentTokens are errors; all other
// letters stand for themselves there, and so here.
const momentLetters = "HhMDdwWQNYyGgeEaAkmsSxXzZLl"

// momentTokens write one group of equal letters.
var momentTokens = map[string]func(time.Time) string{
	"YYYY": func(t time.Time) string { return fmt.Sprintf("%04d", t.Year()) },
	"YY":   func(t time.Time) string { return fmt.Sprintf("%02d", t.Year()%100) },
	"Q":    func(t time.Time) string { return strconv.Itoa((int(t.Month()) + 2) / 3) },
	"MMMM": func(t time.Time) string { return t.Month().String() },
	"MMM":  func(t time.Time) string { return t.Month().String()[:3] },
	"MM":   func(t time.Time) string { return fmt.Sprintf("%02d", t.Month()) },
	"M":    func(t time.Time) string { return strconv.Itoa(int(t.Month())) },
	"DDDD": func(t time.Time) string { return fmt.Sprintf("%03d", t.YearDay()) },
	"DDD":  func(t time.Time) string { return strconv.Itoa(t.YearDay()) },
	"DD":   func(t time.Time) string { return fmt.Sprintf("%02d", t.Day()) },
	"D":    func(t time.Time) string { return strconv.Itoa(t.Day()) },
	"Do":   func(t time.Time) string { return ordinal(t.Day()) },
	"dddd": func(t time.Time) string { return t.Weekday().String() },
	"ddd":  func(t time.Time) string { return t.Weekday().String()[:3] },
	"dd":   func(t time.Time) string { return t.Weekday().String()[:2] },
	"d":    func(t time.Time) string { return strconv.Itoa(int(t.Weekday())) },
	"HH":   func(t time.Time) string { return fmt.Sprintf("%02d", t.Hour()) },
	"H":    func(t time.Time) string { return strconv.Itoa(t.Hour()) },
	"hh":   func(t time.Time) string { return fmt.Sprintf("%02d", hour12(t)) },
	"h":    func(t time.Time) string { return strconv.Itoa(hour12(t)) },
	"mm":   func(t time.Time) string { return fmt.Sprintf("%02d", t.Minute()) },
	"m":    func(t time.Time) string { return strconv.Itoa(t.Minute()) },
	"ss":   func(t time.Time) string { return fmt.Sprintf("%02d", t.Second()) },
	"s":    func(t time.Time) string { return strconv.Itoa(t.Second()) },
	"S":    func(t time.Time) string { return fmt.Sprintf("%03d", milliseconds(t))[:1] },
	"SS":   func(t time.Time) string { return fmt.Sprintf("%03d", milliseconds(t))[:2] },
	"SSS":  func(t time.Time) string { return fmt.Sprintf("%03d", milliseconds(t)) },
	"A":    func(t time.Time) string { return t.Format("PM") },
	"a":    func(t time.Time) string { return t.Format("pm") },
	"Z":    func(t time.Time) string { return t.Format("-07:00") },
	"ZZ":   func(t time.Time) string { return t.Format("-0700") },
	"X":    func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) },
	"x":    func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) },
}

func hour12(t time.Time) int       { return (t.Hour()+11)%12 + 1 }
func milliseconds(t time.Time) int { return t.Nanosecond() / int(time.Millisecond) }

func ordinal(n int) string {
	ending := "th"
	if n/10 != 1 {
		switch n % 10 {
		case 1:
			ending = "st"
		case 2:
			ending = "nd"
		case 3:
			ending = "rd"
		}
	}
	return strconv.Itoa(n) + ending
}

// momentFormat writes t in a format of moment.js; text in [brackets] stands for itself.
func momentFormat(t time.Time, format string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(format); {
		c := format[i]
		if c == '[' {
			if end := strings.IndexByte(format[i:], ']'); end > 0 {
				b.WriteString(format[i+1 : i+end])
				i += end + 1
				continue
			}
		}
		if c == '\\' {
			return "", fmt.Errorf("format %q: write what stands for itself in [brackets]", clip(format))
		}
		if strings.IndexByte(momentLetters, c) < 0 {
			b.WriteByte(c)
			i++
			continue
		}
		token := momentToken(format[i:])
		write, ok := momentTokens[token]
		if !ok {
			return "", fmt.Errorf("format %q: %s is not supported; write what stands for itself in [brackets]", clip(format), token)
		}
		b.WriteString(write(t))
		i += len(token)
	}
	return b.String(), nil
}

// momentToken is the longest group of equal letters that s begins with, with the o of
// an ordinal after a single letter.
func momentToken(s string) string {
	n := 1
	for n < len(s) && n < 10 && s[n] == s[0] {
		n++
	}
	if n == 1 && len(s) > 1 && s[1] == 'o' && strings.IndexByte("MDdwWQy", s[0]) >= 0 {
		n = 2
	}
	return s[:n]
}
