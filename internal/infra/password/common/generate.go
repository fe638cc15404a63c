//go:build ignore

// This program writes passwords.bin; README.md beside it documents the source of the words and how
// to run it.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/nbutton23/zxcvbn-go/frequency"

	"github.com/fusionspim/steward/internal/infra/password"
)

// source is the SHA-256 of the list that the first argument names, so that the output is
// reproducible.
const source = "f422773d94d630f27e08b26d7017e847bb1feb2a84809340e9c0b0c47b33e3f1"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 2 {
		return fmt.Errorf("usage: go run generate.go package/src/passwords.json passwords.bin")
	}
	content, err := os.ReadFile(arguments[0])
	if err != nil {
		return err
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(content)); sum != source {
		return fmt.Errorf("%s has SHA-256 %s, not %s", filepath.Base(arguments[0]), sum, source)
	}
	var words []string
	if err := json.Unmarshal(content, &words); err != nil {
		return err
	}
	list := password.EncodeCommon(slices.Concat(words, frequency.Lists["Passwords"].List))
	fmt.Printf("%d bytes, SHA-256 %x\n", len(list), sha256.Sum256(list))
	return os.WriteFile(arguments[1], list, 0o644)
}
