// Command reference does a fixed amount of what package initialisation usually
// is, expressions to compile and tables to fill: how slow the machine is now.
package main

import (
	"regexp"
	"strconv"
)

var (
	expressions = compile(4)
	table       = fill(400)
)

func compile(n int) (all []*regexp.Regexp) {
	for i := range n {
		all = append(all, regexp.MustCompile(`^([a-z0-9]+(?:[._-][a-z0-9]+)*)(?::([\w][\w.-]{0,127}))?`+strconv.Itoa(i)+`$`))
	}
	return all
}

func fill(n int) map[string]int {
	m := map[string]int{}
	for i := range n {
		m["key "+strconv.Itoa(i)] = i
	}
	return m
}

func main() { _, _ = expressions, table }
