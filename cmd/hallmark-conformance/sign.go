package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// signBundle signs a file, or with --in-toto the statement in it, keyless. With
// --trusted-root the bundle is verified under that root before it is written.
func signBundle(ctx context.Context, a *cli.App, c *call) error {
	if c.identityToken == "" {
		return fault.Usagef("--identity-token is missing")
	}
	token, err := idtoken.Parse(c.identityToken)
	if err != nil {
		return fault.Usagef("--identity-token: %w", err)
	}
	if err := idtoken.Check(token, idtoken.DefaultClientID, time.Now()); err != nil {
		return err
	}
	config, err := c.services(ctx, a)
	if err != nil {
		return err
	}
	services := sign.ServicesFrom(config, time.Now(), true)
	services.UserAgent = a.UserAgent()
	signer, err := sign.New(sign.Config{Services: services, Token: token})
	if err != nil {
		return err
	}
	signer.Consent() // the suite signs with a beacon's token, which is meant to be public
	data, artifact, err := c.sign(ctx, signer)
	if err != nil {
		return fmt.Errorf("sign %s: %w", c.file, err)
	}
	if c.trustedRoot != "" {
		if err := c.checkSigned(ctx, signer, data, artifact); err != nil {
			return err
		}
	}
	return durable.WriteFile(c.bundle, data, 0o644)
}

// services are those of the signing config, else those of the public instance.
func (c *call) services(ctx context.Context, a *cli.App) (*trust.SigningConfig, error) {
	if c.signingConfig == "" && c.staging {
		return nil, errStaging
	}
	data, err := a.TrustFile(ctx, c.signingConfig, cli.TargetSigningConfig)
	if err != nil {
		return nil, fmt.Errorf("--signing-config: %w", err)
	}
	config, err := trust.ParseSigningConfig(data)
	if err == nil {
		err = config.Unmet(time.Now())
	}
	if err != nil {
		return nil, fmt.Errorf("--signing-config %s: %w", cli.SourceName(c.signingConfig), err)
	}
	return config, nil
}

// sign returns the bundle's JSON, and what it is about: the file, or with
// --in-toto what the statement in the file names first.
func (c *call) sign(ctx context.Context, signer *sign.Signer) ([]byte, verify.Artifact, error) {
	content, err := readFile("FILE", c.file, maxSigned)
	if err != nil {
		return nil, verify.Artifact{}, err
	}
	if !c.inToto {
		artifact, err := verify.HashFile(bytes.NewReader(content))
		if err != nil {
			return nil, artifact, err
		}
		_, data, err := signer.Blob(ctx, bytes.NewReader(content))
		return data, artifact, err
	}
	statement, err := sign.ReadyStatement(content)
	if err != nil {
		return nil, verify.Artifact{}, err
	}
	signed, err := signer.Sign(ctx, statement)
	if err != nil {
		return nil, verify.Artifact{}, err
	}
	data, err := io.ReadAll(signed.Reader())
	return data, verify.Image(statement.Subject), err
}

// maxSigned is the largest file that is signed, in bytes; the suite's have a few.
const maxSigned = 64 << 20

// checkSigned verifies what was just made, as whoever receives it will.
func (c *call) checkSigned(ctx context.Context, signer *sign.Signer, data []byte, artifact verify.Artifact) error {
	who, err := signer.Who(ctx)
	if err != nil {
		return err
	}
	root, err := c.root()
	if err != nil {
		return err
	}
	q := gate.Requirements{Identities: []policy.Identity{{Subject: who.Identity, Issuer: who.Issuer}}}
	d, err := judge(ctx, c.file, artifact, data, verify.Config{Roots: []*trust.Root{root}}, q)
	if err != nil {
		return err
	}
	if !d.Allowed {
		return errors.New("what was signed does not verify under --trusted-root: " + d.Reasons[0].String())
	}
	return nil
}
