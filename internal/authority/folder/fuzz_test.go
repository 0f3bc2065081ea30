package folder

import "testing"

func FuzzLogMoved(f *testing.F) {
	for _, seed := range []string{`{"version":3}`, `{"moved":{"shard":1,"url":"https://log.example.com","seen":"x"}}`, `{"moved":{}}`, `{"moved":[]}`, `x`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if url, err := logMoved("authority.json", data); err != nil && url != "" {
			t.Errorf("%q and %v", url, err)
		}
	})
}
