// Package week runs docs/week.md: a week of an authority that two teams sign with.
package week
