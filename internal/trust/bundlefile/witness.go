package bundlefile

import (
	"errors"
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

// WitnessKeys are the parsed Witnesses; Quorum of them must have cosigned.
func (f *File) WitnessKeys() ([]trust.Witness, error) {
	var out []trust.Witness
	for _, vkey := range f.Witnesses {
		w, err := trust.ParseWitness(vkey)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

func (f *File) checkWitnesses() error {
	ws, err := f.WitnessKeys()
	if err != nil {
		return fmt.Errorf("witnesses: %w", err)
	}
	keys, names := map[string]bool{}, map[string]bool{}
	for _, w := range ws {
		if keys[string(w.Key)] || names[w.Name] {
			return fmt.Errorf("witnesses: %s, or its key, is there twice: a quorum counts different parties", w.Name)
		}
		keys[string(w.Key)], names[w.Name] = true, true
	}
	if f.Quorum < 0 || f.Quorum > len(ws) || (f.Quorum == 0) != (len(ws) == 0) {
		return errors.New("witnessQuorum: not between 1 and the number of witnesses")
	}
	return nil
}
