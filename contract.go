// Package steward holds the contract of the service, openapi.yaml, as the bytes that were written.
package steward

import _ "embed"

// Contract is openapi.yaml.
//
//go:embed openapi.yaml
var Contract []byte
