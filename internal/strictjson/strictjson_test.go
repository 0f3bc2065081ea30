package strictjson_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

type inner struct {
	LogIndex int64  `json:"logIndex,string"`
	Kind     string `json:"kind" strict:"enum"`
}

type outer struct {
	Name     string            `json:"name" strict:"required"`
	Raw      json.RawMessage   `json:"raw"`
	RawBytes []byte            `json:"rawBytes"`
	List     []inner           `json:"list" strict:"max=2"`
	Map      map[string]string `json:"map"`
	Ptr      *inner            `json:"ptr"`
	Plain    int64             `json:"plain"`
	Small    uint32            `json:"small"`
	Real     float64           `json:"real"`
	Yes      bool              `json:"yes"`
	When     time.Time         `json:"when"`
}

const all = ` {"name":"a\u00e9\ud83d\ude00\n","raw":{"x":[1,-0.5e+3,null,true]},"rawBytes":"AQI=",
 "list":[{"logIndex":"7","kind":"k"},{"logIndex":-8,"kind":""}],"map":{"é":"v"},"ptr":null,
 "plain":-9223372036854775808,"small":4294967295,"real":1.5,"yes":true,"when":"2026-01-31T12:00:00.5Z"} `

func TestUnmarshal(t *testing.T) {
	t.Parallel()
	var got outer
	if err := strictjson.Unmarshal([]byte(all), &got); err != nil {
		t.Fatal(err)
	}
	want := outer{
		Name: "aé😀\n", Raw: json.RawMessage(`{"x":[1,-0.5e+3,null,true]}`), RawBytes: []byte{1, 2},
		List: []inner{{LogIndex: 7, Kind: "k"}, {LogIndex: -8}}, Map: map[string]string{"é": "v"},
		Plain: -1 << 63, Small: 1<<32 - 1, Real: 1.5, Yes: true, When: time.Date(2026, 1, 31, 12, 0, 0, 5e8, time.UTC),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestNearMisses: one wrong thing each, and the error names the place.
func TestNearMisses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ in, want string }{
		"duplicate":           {`{"name":"a","name":"a"}`, "name: duplicate"},
		"escaped duplicate":   {`{"name":"a","n\u0061me":"a"}`, "name: duplicate"},
		"unknown":             {`{"name":"a","nam":1}`, "nam: unknown"},
		"other case":          {`{"Name":"a"}`, "Name: unknown"},
		"deep unknown":        {`{"name":"a","list":[{},{"logIdx":1}]}`, "list[1].logIdx: unknown"},
		"missing":             {`{}`, "name: missing"},
		"snake":               {`{"name":"a","raw_bytes":""}`, "raw_bytes: unknown"},
		"null":                {`{"name":null}`, "name: null"},
		"null element":        {`{"name":"a","list":[null]}`, "list[0]: null"},
		"trailing":            {`{"name":"a"}}`, "follows"},
		"two values":          {`{"name":"a"}{}`, "follows"},
		"comma at end":        {`{"name":"a",}`, "string"},
		"comma in array":      {`{"name":"a","list":[{},]}`, "object"},
		"single quotes":       {`{'name':'a'}`, "string"},
		"comment":             {`{"name":"a"/**/}`, "comma"},
		"byte order mark":     {"\ufeff{\"name\":\"a\"}", "object"},
		"form feed":           {"{\f\"name\":\"a\"}", "string"},
		"control character":   {"{\"name\":\"a\x01\"}", "control"},
		"invalid UTF-8":       {"{\"name\":\"\xff\"}", "UTF-8"},
		"overlong UTF-8":      {"{\"name\":\"\xc0\xaf\"}", "UTF-8"},
		"encoded surrogate":   {"{\"name\":\"\xed\xa0\x80\"}", "UTF-8"},
		"lone surrogate":      {`{"name":"\ud83d"}`, "surrogate"},
		"low surrogate first": {`{"name":"\ude00\ud83d"}`, "surrogate"},
		"unknown escape":      {`{"name":"\x41"}`, "escape"},
		"short escape":        {`{"name":"\u004"}`, "hexadecimal"},
		"unfinished":          {`{"name":"a`, "no end"},
		"unfinished escape":   {`{"name":"\`, "no end"},
		"leading zero":        {`{"name":"a","plain":01}`, "leading zero"},
		"plus":                {`{"name":"a","plain":+1}`, "number"},
		"minus zero":          {`{"name":"a","plain":-0}`, "minus zero"},
		"fraction":            {`{"name":"a","plain":1.0}`, "comma"},
		"exponent":            {`{"name":"a","plain":1e1}`, "comma"},
		"too big":             {`{"name":"a","plain":9223372036854775808}`, "fit"},
		"negative unsigned":   {`{"name":"a","small":-1}`, "fit"},
		"quoted, unasked":     {`{"name":"a","plain":"1"}`, "number"},
		"quoted spaces":       {`{"name":"a","list":[{"logIndex":" 1"}]}`, "list[0].logIndex: the string"},
		"huge real":           {`{"name":"a","real":1e999}`, "fit"},
		"bare point":          {`{"name":"a","real":1.}`, "digits"},
		"not a number":        {`{"name":"a","real":NaN}`, "number"},
		"one":                 {`{"name":"a","yes":1}`, "true or false"},
		"number enum":         {`{"name":"a","list":[{"kind":1}]}`, "string"},
		"too many elements":   {`{"name":"a","list":[{},{},{}]}`, "more than 2"},
		"map duplicate":       {`{"name":"a","map":{"x":"","x":""}}`, "map.x: duplicate"},
		"raw duplicate":       {`{"name":"a","raw":{"p":[{"x":1,"x":2}]}}`, "raw.p[0].x: duplicate"},
		"raw unfinished":      {`{"name":"a","raw":[1`, "comma"},
		"base64 unpadded":     {`{"name":"a","rawBytes":"AQI"}`, "base64"},
		"base64 URL":          {`{"name":"a","rawBytes":"_-8="}`, "base64"},
		"base64 line break":   {`{"name":"a","rawBytes":"AQ\nI="}`, "base64"},
		"base64 stray bits":   {`{"name":"a","rawBytes":"AQJ="}`, "base64"},
		"base64 space":        {`{"name":"a","rawBytes":"AQI= "}`, "base64"},
		"time comma":          {`{"name":"a","when":"2026-01-31T12:00:00,5Z"}`, "RFC 3339"},
		"time zone missing":   {`{"name":"a","when":"2026-01-31T12:00:00"}`, "RFC 3339"},
		"time, one digit":     {`{"name":"a","when":"2026-01-31T2:00:00.0Z"}`, "RFC 3339"},
		"no February 30":      {`{"name":"a","when":"2026-02-30T12:00:00Z"}`, "RFC 3339"},
		"empty":               {``, "object"},
		"array":               {`[]`, "object"},
	} {
		var v outer
		err := strictjson.Unmarshal([]byte(tc.in), &v)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestUnmarshalProto(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"snake":      `{"name":"a","raw_bytes":"AQL/"}`,
		"null":       `{"name":"a","rawBytes":"AQL/","list":null,"map":null,"plain":null}`,
		"URL":        `{"name":"a","rawBytes":"AQL_"}`,
		"line break": `{"name":"a","rawBytes":"A\r\nQL/\n"}`,
		"quoted int": `{"name":"a","rawBytes":"AQL/","plain":"0"}`,
	} {
		var v outer
		if err := strictjson.UnmarshalProto([]byte(in), &v); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if string(v.RawBytes) != "\x01\x02\xff" {
			t.Errorf("%s: read %q", name, v.RawBytes)
		}
	}
	var v outer
	if err := strictjson.UnmarshalProto([]byte(`{"name":"a","rawBytes":"AQI","list":[{"kind":7}]}`), &v); err != nil || v.List[0].Kind != "7" || len(v.RawBytes) != 2 {
		t.Errorf("missing padding or number as enum: %v %+v", err, v)
	}
	for name, tc := range map[string]struct{ in, want string }{
		"both spellings": {`{"name":"a","rawBytes":"","raw_bytes":""}`, "rawBytes: duplicate"},
		"null twice":     {`{"name":"a","plain":null,"plain":null}`, "plain: duplicate"},
		"other case":     {`{"name":"a","rawbytes":""}`, "unknown"},
		"stray bits":     {`{"name":"a","rawBytes":"AQJ"}`, "base64"},
		"two alphabets":  {`{"name":"a","rawBytes":"/_8="}`, "base64"},
		"much padding":   {`{"name":"a","rawBytes":"AQI=="}`, "base64"},
		"inner padding":  {`{"name":"a","rawBytes":"AQ==AQ=="}`, "base64"},
		"enum fraction":  {`{"name":"a","list":[{"kind":7.5}]}`, "comma"},
		"null element":   {`{"name":"a","list":[null]}`, "list[0]: null"},
	} {
		var v outer
		if err := strictjson.UnmarshalProto([]byte(tc.in), &v); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	if err := strictjson.Valid(nested(10), 10); err != nil {
		t.Error(err)
	}
	if strictjson.Valid(nested(11), 10) == nil {
		t.Error("11 levels were accepted where 10 are the limit")
	}
	long := append(bytes.Repeat([]byte(" "), strictjson.MaxSize-2), "{}"...)
	if err := strictjson.Valid(long, 4); err != nil {
		t.Error(err)
	}
	if err := strictjson.Valid(append(long, ' '), 4); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Error("too long a text was read:", err)
	}
	var many strings.Builder
	for i := range 100 {
		many.WriteString(`,"m` + strings.Repeat("x", i) + `":0`)
	}
	if err := strictjson.Valid([]byte("{"+many.String()[1:]+"}"), 4); err != nil {
		t.Error(err)
	}
	if err := strictjson.Valid([]byte("{"+many.String()[1:]+many.String()+"}"), 4); err == nil || !strings.Contains(err.Error(), "duplicate") {
		t.Errorf("a duplicate among many: %v", err)
	}
}

// FuzzValid: what is accepted, encoding/json accepts too, and reads the same.
func FuzzValid(f *testing.F) {
	f.Add([]byte(all))
	f.Add([]byte(`{"a":1,"\u0061":1}`))
	f.Add([]byte("[\"\\ud83d\\ude00\", -0, 1e5]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if strictjson.Valid(data, strictjson.MaxDepth) == nil && !json.Valid(data) {
			t.Fatalf("accepted %q", data)
		}
		var ours outer
		if strictjson.Unmarshal(data, &ours) != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted %q", data)
		}
		var proto outer
		if err := strictjson.UnmarshalProto(data, &proto); err != nil {
			t.Fatalf("%q is strict and not free: %v", data, err)
		}
		if diff := cmp.Diff(ours, proto); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A misspelt word in a tag must not become a field that may be missing.
func TestTagsAreStrictToo(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]any{
		"misspelt": &struct {
			A string `json:"a" strict:"requird"`
		}{},
		"in the wrong tag": &struct {
			//lint:ignore SA5008 this is the mistake
			A string `json:"a,required"`
		}{},
		"max of words": &struct {
			A []string `json:"a" strict:"max=many"`
		}{},
		"max of none": &struct {
			A []string `json:"a" strict:"max=0"`
		}{},
	} {
		if err := strictjson.Unmarshal([]byte(`{}`), v); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestHasNull(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`{}`: false, `{"null":"null","n":"\\"}`: false, `["\"",true,1e2]`: false, `null`: true, `{"a":null}`: true, `["\\\"",null]`: true, `["\\",null]`: true,
	} {
		if strictjson.HasNull([]byte(text)) != want {
			t.Errorf("%s: %t", text, !want)
		}
	}
}
