package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/cli/check"
)

// TestHelpFitsAScreen: hallmark --help is at most 24 lines of 80 columns and has
// every command that is not hidden: a line each, or its name in the last one.
func TestHelpFitsAScreen(t *testing.T) {
	t.Parallel()
	for _, call := range [][]string{{"--help"}, {"help"}, {}} {
		out := answerOf(t, call...)
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		if len(lines) > 24 {
			t.Errorf("%v: %d lines", call, len(lines))
		}
		for _, line := range lines {
			if len(line) > 80 {
				t.Errorf("%v: %d columns: %s", call, len(line), line)
			}
		}
		for _, c := range newRootCommand(newApp()).Commands() {
			if !c.Hidden && !strings.Contains(out, "\n  "+c.Name()+" ") && !strings.Contains(lines[len(lines)-1], " "+c.Name()) {
				t.Errorf("%v does not name %s", call, c.Name())
			}
		}
	}
}

// TestFlags: who reads a command's help finds at most 15 flags. build is the
// exception that docs/manual.md gives the reason for.
func TestFlags(t *testing.T) {
	t.Parallel()
	for _, c := range allCommands(newRootCommand(newApp())) {
		n := 0
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				n++
			}
		})
		limit := 15
		switch c.CommandPath() { // docs/manual.md says why
		case "hallmark sign", "hallmark attest":
			limit = 17
		case "hallmark up":
			limit = 17
		case "hallmark approve", "hallmark reject":
			limit = 16
		case "hallmark build":
			limit = 30
		case "hallmark bake":
			limit = 21
		case "hallmark verify", "hallmark verify-attestation":
			limit = 28
		}
		if n > limit {
			t.Errorf("%s has %d flags, at most %d", c.CommandPath(), n, limit)
		}
	}
}

// TestCompletion: a script for each shell, the one for bash without an error, and
// it is hallmark itself that knows the words.
func TestCompletion(t *testing.T) {
	t.Parallel()
	for shell, first := range map[string]string{"bash": "# bash completion V2 for hallmark", "zsh": "#compdef hallmark\n", "fish": "# fish completion for hallmark"} {
		if out := answerOf(t, "completion", shell); !strings.HasPrefix(out, first) || !strings.Contains(out, "__complete") {
			t.Errorf("%s: %.80q", shell, out)
		}
	}
	check := exec.Command("bash", "-n")
	check.Stdin = strings.NewReader(answerOf(t, "completion", "bash"))
	if out, err := check.CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("bash -n: %v\n%s", err, out)
	}
	if out := answerOf(t, "__complete", "ver"); !strings.HasPrefix(out, "verify\t") || !strings.Contains(out, "\nversion\t") {
		t.Errorf("completing ver: %q", out)
	}
	a := &app{&cli.App{Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}, Env: func(string) string { return "" }}}
	if code := run([]string{"completion", "tcsh"}, a); code != cli.ExitUsage {
		t.Errorf("completion tcsh: exit code %d", code)
	}
}

func answerOf(t *testing.T, call ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{&cli.App{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Env: func(string) string { return "" }}}
	if code := run(call, a); code != cli.ExitOK {
		t.Fatalf("%v: exit code %d\n%s", call, code, &stderr)
	}
	return stdout.String()
}

// TestReasonsAreDocumented: docs/reasons.md has each code that the sources can
// give, and no other.
func TestReasonsAreDocumented(t *testing.T) {
	t.Parallel()
	inCode := map[string]bool{}
	eachSource(t, func(path string, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec: // const CodeX = "X", and all of verify's list
				for i, name := range n.Names {
					if i < len(n.Values) && (strings.HasPrefix(name.Name, "Code") || strings.HasSuffix(path, "internal/verify/reason.go")) {
						addCode(inCode, n.Values[i])
					}
				}
			case *ast.KeyValueExpr: // policy.Reason{Code: "X"}
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" {
					addCode(inCode, n.Value)
				}
			case *ast.CallExpr: // reason("X", …)
				if f, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && strings.Contains(strings.ToLower(f.Name), "reason") {
					addCode(inCode, n.Args[0])
				}
			}
			return true
		})
	})
	documented := map[string]bool{}
	for _, row := range tableRows(readDocument(t, "../../docs/reasons.md")) {
		for _, code := range quoted(row[0]) {
			if documented[code] {
				t.Errorf("docs/reasons.md has %s twice", code)
			}
			documented[code] = true
		}
	}
	if len(inCode) < 40 {
		t.Errorf("only %d codes were found in the sources", len(inCode))
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(inCode)), slices.Sorted(maps.Keys(documented))); diff != "" {
		t.Errorf("codes in the sources (-) and in docs/reasons.md (+):\n%s", diff)
	}
}

func addCode(codes map[string]bool, v ast.Expr) {
	lit, ok := v.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return
	}
	if s, err := strconv.Unquote(lit.Value); err == nil && regexp.MustCompile(`^[A-Z][A-Z_]+$`).MatchString(s) {
		codes[s] = true
	}
}

// eachSource parses what hallmark is made of, without the registry and the
// authority, whose codes are those of other specifications.
func eachSource(t *testing.T, do func(path string, f *ast.File)) {
	for _, root := range []string{"../../internal", "."} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "testdata" || filepath.ToSlash(path) == "../../internal/authority" || d.Name() == "hmtest"):
				return filepath.SkipDir
			case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err == nil {
				do(filepath.ToSlash(path), f)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// jsonAnswers is what each command with --json prints.
var jsonAnswers = map[string][]any{
	"build":                  {buildAnswer{}},
	"bake":                   {bakeAnswer{}},
	"inputs":                 {inputsAnswer{}},
	"sign":                   {signedAnswer{}},
	"attest":                 {signedAnswer{}},
	"convert":                {convertAnswer{}},
	"verify":                 {check.VerifyAnswer{}, check.ManyAnswer{}},
	"verify-attestation":     {check.VerifyAnswer{}, check.ManyAnswer{}},
	"show":                   {check.ShowAnswer{}},
	"trust show":             {check.TrustAnswer{}},
	"trust check":            {check.TrustCheckAnswer{}},
	"policy eval":            {policyEvalAnswer{}},
	"policy explain":         {policyEvalAnswer{}},
	"policy publish":         {policyPublishAnswer{}},
	"policy pull":            {policyPullAnswer{}},
	"policy rule":            {signedAnswer{}},
	"policy lock":            {lockAnswer{}},
	"policy test":            {policyTestAnswer{}},
	"policy lint":            {lintAnswer{}},
	"log get":                {logEntriesAnswer{}},
	"log search":             {logEntriesAnswer{}},
	"log verify":             {logVerifyAnswer{}},
	"log watch":              {logWatchAnswer{}},
	"log mirror":             {logMirrorAnswer{}},
	"log witness":            {logWitnessAnswer{}},
	"admit check":            {admitAnswer{}},
	"gate check":             {gateAnswer{}},
	"approve":                {approveAnswer{}, proposalApproval{}},
	"reject":                 {approveAnswer{}, proposalApproval{}},
	"approvals":              {approvalsAnswer{}},
	"pending":                {pendingAnswer{}},
	"review":                 {reviewAnswer{}},
	"tag":                    {tagAnswer{}},
	"signing-policy lint":    {lintAnswer{}},
	"signing-policy test":    {policyTestAnswer{}},
	"signing-policy show":    {shownPolicy{}},
	"signing-policy diff":    {policyDiff{}},
	"signing-policy propose": {proposed{}},
	"signing-policy submit":  {submitted{}},
	"up":                     {upAnswer{}, rehearsalAnswer{}},
	"up env":                 {upEnvAnswer{}},
	"up user add":            {upUserAnswer{}},
	"authority gc":           {gcAnswer{}, gcRepository{}},
	"authority check":        {authorityCheckAnswer{Damage: []damageAnswer{{Offset: new(int64)}}}},
	"authority backup":       {authorityBackupAnswer{}},
	"authority restore":      {authorityRestoreAnswer{}},
	"authority rotate":       {authority.Rotation{}},
	"authority move-log":     {moveLogAnswer{}},
	"authority root":         {certificateAnswer{}},
	"authority issue":        {certificateAnswer{}},
	"authority chain":        {certificateAnswer{}},
	"authority csr":          {csrAnswer{}},
	"token":                  {tokenAnswer{}},
	"key generate":           {keyAnswer{}},
	"key import":             {keyAnswer{}},
	"key public":             {publicKeyAnswer{}},
	"doctor key":             {doctorKeyAnswer{}},
	"env":                    {environmentAnswer{}},
	"version":                {cli.VersionAnswer{}},
}

// asPrinted is how a section says that a member is what another command prints.
var asPrinted = regexp.MustCompile("what `hallmark ([a-z ]+) --json` prints")

// TestJSONIsDocumented: docs/json.md has a section for each command with --json;
// each member that the command can print is named in it, and its tables have no other.
func TestJSONIsDocumented(t *testing.T) {
	t.Parallel()
	sections := map[string]string{}
	for _, s := range strings.Split(readDocument(t, "../../docs/json.md"), "\n## ")[1:] {
		title, text, _ := strings.Cut(s, "\n")
		for _, name := range strings.Split(title, ", ") {
			sections[name] = text
		}
	}
	var with []string
	for _, c := range allCommands(newRootCommand(newApp())) {
		if c.Flags().Lookup("json") == nil {
			continue
		}
		name := strings.TrimPrefix(c.CommandPath(), "hallmark ")
		with = append(with, name)
		members := map[string]bool{}
		for _, answer := range jsonAnswers[name] {
			jsonMembers(reflect.TypeOf(answer), members)
		}
		named := map[string]bool{}
		text := sections[name]
		for _, other := range asPrinted.FindAllStringSubmatch(text, -1) {
			text += sections[other[1]]
		}
		for _, word := range quoted(text) {
			named[word] = true
		}
		for m := range members {
			if !named[m] {
				t.Errorf("docs/json.md, %s: says nothing of %q", name, m)
			}
		}
		for _, row := range tableRows(sections[name]) {
			for _, m := range quoted(row[0]) {
				if !members[m] {
					t.Errorf("docs/json.md, %s: %q is not printed", name, m)
				}
			}
		}
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(with)), slices.Sorted(maps.Keys(jsonAnswers))); diff != "" {
		t.Errorf("commands with --json (-) and known answers (+):\n%s", diff)
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(with)), slices.Sorted(maps.Keys(sections))); diff != "" {
		t.Errorf("commands with --json (-) and sections of docs/json.md (+):\n%s", diff)
	}
}

// jsonMembers collects the names of a type's members, and of those below them.
func jsonMembers(v reflect.Type, names map[string]bool) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || v == reflect.TypeFor[time.Time]() || v.Implements(reflect.TypeFor[json.Marshaler]()) {
		return
	}
	for i := range v.NumField() {
		f := v.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			jsonMembers(f.Type, names)
		case !f.IsExported() || name == "-":
		case names[name]: // a tree: seen before
		default:
			names[name] = true
			jsonMembers(f.Type, names)
		}
	}
}

// TestEnvironmentIsDocumented: docs/manual.md has the table of hallmark env, and
// names every other variable that the sources read.
func TestEnvironmentIsDocumented(t *testing.T) {
	t.Parallel()
	manual := readDocument(t, "../../docs/manual.md")
	section := sectionOf(t, manual, "Environment")
	var listed, documented []string
	for _, e := range environment {
		listed = append(listed, e.name)
	}
	for _, row := range tableRows(section) {
		documented = append(documented, quoted(row[0])...)
	}
	if diff := cmp.Diff(listed, documented); diff != "" {
		t.Errorf("hallmark env (-) and docs/manual.md (+):\n%s", diff)
	}
	named := quoted(section)
	read := 0
	eachSource(t, func(path string, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			name := ""
			switch f := call.Fun.(type) {
			case *ast.Ident:
				name = f.Name
			case *ast.SelectorExpr:
				name = f.Sel.Name
			}
			lit, isLiteral := call.Args[0].(*ast.BasicLit)
			if !slices.Contains([]string{"env", "Env", "Getenv", "LookupEnv"}, name) || !isLiteral {
				return true
			}
			read++
			if variable := strings.Trim(lit.Value, `"`); !slices.Contains(named, variable) {
				t.Errorf("%s reads %s, and docs/manual.md does not say so", path, variable)
			}
			return true
		})
	})
	if read < 20 {
		t.Errorf("only %d reads of variables were found", read)
	}
}

// TestExitCodesAreDocumented: the tables of the documents are the constants.
func TestExitCodesAreDocumented(t *testing.T) {
	t.Parallel()
	var inCode []string
	for _, code := range []int{cli.ExitOK, cli.ExitFailure, cli.ExitUsage, cli.ExitDenied, cli.ExitNotFound, cli.ExitUnreachable, cli.ExitInterrupted} {
		inCode = append(inCode, strconv.Itoa(code))
	}
	var documented []string
	for _, row := range tableRows(sectionOf(t, readDocument(t, "../../docs/manual.md"), "Exit codes")) {
		documented = append(documented, row[0])
	}
	if diff := cmp.Diff(inCode, documented); diff != "" {
		t.Errorf("constants (-) and docs/manual.md (+):\n%s", diff)
	}
	_, sentence, found := strings.Cut(strings.Join(strings.Fields(readDocument(t, "../../README.md")), " "), "Exit codes: ")
	sentence, _, ends := strings.Cut(sentence, ".")
	if got := regexp.MustCompile(`[0-9]+`).FindAllString(sentence, -1); !found || !ends || !slices.Equal(got, inCode) {
		t.Errorf("README.md has the exit codes %v", got)
	}
}

// TestCommandsAreDocumented: docs/manual.md has a table of all commands that do
// something, and every flag that the documents name is one of a command.
func TestCommandsAreDocumented(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for _, path := range documents(t) {
		all.WriteString(readDocument(t, path))
	}
	var commands, documented []string
	flags := map[string]bool{"--help": true, "--plain-http": true}
	for _, c := range allCommands(newRootCommand(newApp())) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { flags["--"+f.Name] = true })
		if !c.HasSubCommands() || c.Name() == "up" {
			commands = append(commands, c.CommandPath())
		}
	}
	for _, row := range tableRows(sectionOf(t, readDocument(t, "../../docs/manual.md"), "Commands")) {
		documented = append(documented, quoted(row[0])...)
	}
	slices.Sort(commands)
	slices.Sort(documented)
	if diff := cmp.Diff(commands, documented); diff != "" {
		t.Errorf("commands (-) and docs/manual.md (+):\n%s", diff)
	}
	for _, code := range quoted(all.String()) {
		if !strings.HasPrefix(code, "--") && !strings.HasPrefix(code, "hallmark ") {
			continue // cosign's flags, and others'
		}
		for _, word := range strings.Fields(code) {
			flag, _, _ := strings.Cut(word, "=")
			if strings.HasPrefix(flag, "--") && !flags[flag] {
				t.Errorf("the documents name %s, and no command has it", flag)
			}
		}
	}
}

func sectionOf(t *testing.T, text, title string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n## "+title+"\n")
	if !found {
		t.Fatalf("there is no section %q", title)
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	return section
}

// tableRows are the rows of a text's tables without their heads, cell by cell.
func tableRows(text string) [][]string {
	var rows [][]string
	body := false
	for _, line := range strings.Split(text, "\n") {
		switch {
		case !strings.HasPrefix(line, "|"):
			body = false
		case strings.HasPrefix(line, "|---"):
			body = true
		case body:
			var cells []string
			for _, cell := range strings.Split(strings.Trim(line, "|"), "|") {
				cells = append(cells, strings.TrimSpace(cell))
			}
			rows = append(rows, cells)
		}
	}
	return rows
}

// quoted are the words between backquotes.
func quoted(text string) []string {
	var words []string
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(text, -1) {
		words = append(words, m[1])
	}
	return words
}

// TestDocumentsExist: what README.md links to is there.
func TestDocumentsExist(t *testing.T) {
	t.Parallel()
	for _, path := range documents(t) {
		for _, m := range regexp.MustCompile(`\]\(([^):#]+)\)`).FindAllStringSubmatch(readDocument(t, path), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
		}
	}
}

// TestRegistryConfiguration: the file of docs/registry.md is the one that its
// examples start with.
func TestRegistryConfiguration(t *testing.T) {
	t.Parallel()
	_, text, _ := strings.Cut(readDocument(t, "../../docs/registry.md"), "\n```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	if diff := cmp.Diff(exampleRegistry, text); diff != "" {
		t.Error(diff)
	}
}
