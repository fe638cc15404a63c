package publictest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	module     = "github.com/fusionspim/steward"
	mostModule = 5 // that a user of a public module gets, the user's own included
)

// consumers are programs outside this tree that use one public module each.
var consumers = map[string]string{
	"client": `package main

import (
	"github.com/fusionspim/steward/pkg/client"
	"github.com/fusionspim/steward/pkg/client/api"
)

func main() {
	steward, err := client.New("https://steward.example", client.WithAPIKey("stw_x"))
	var raw *api.Client = steward.Raw()
	println(raw.Server, client.IsProblem(err, client.ProblemEmailTaken))
}
`,
	"trailproof": `package main

import "github.com/fusionspim/steward/pkg/trailproof"

func main() {
	_, err := trailproof.OpenCheckpoint("")
	println(err == nil)
}
`,
	"webhooksig": `package main

import "github.com/fusionspim/steward/pkg/webhooksig"

func main() { println(webhooksig.NewSecret().Reveal() != "") }
`,
}

// Each public module builds in a module of its user's, brings few modules, and asks for an old Go.
func TestPublicModulesInAFreshModule(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	for name, program := range consumers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			run := func(arguments ...string) string {
				t.Helper()
				command := exec.CommandContext(t.Context(), "go", arguments...)
				command.Dir = folder
				command.Env = append(os.Environ(), "GOFLAGS=-mod=mod -trimpath", "GOWORK=off")
				output, err := command.CombinedOutput()
				if err != nil {
					t.Fatalf("go %v: %v\n%s", arguments, err, output)
				}
				return string(output)
			}
			write := func(name, text string) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			path := module + "/pkg/" + name
			own, err := os.ReadFile(filepath.Join(root, "pkg", name, "go.mod"))
			if err != nil {
				t.Fatal(err)
			}
			version := regexp.MustCompile(`(?m)^go (1\.2[2-4])$`).FindStringSubmatch(string(own))
			if version == nil {
				t.Fatalf("pkg/%s asks for a new Go:\n%s", name, own)
			}
			sums, err := os.ReadFile(filepath.Join(root, "pkg", name, "go.sum"))
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			write("go.sum", string(sums))
			write("main.go", program)
			write("go.mod", fmt.Sprintf("module consumer.example\n\ngo %s\n\nrequire %s v0.0.0\n\nreplace %s => %s\n",
				version[1], path, path, filepath.Join(root, "pkg", name)))
			run("mod", "tidy")
			run("build", "-o", filepath.Join(folder, "consumer"), ".")
			modules := strings.Fields(run("list", "-m", "-f", "{{.Path}}", "all"))
			if len(modules) > mostModule {
				t.Errorf("a user of pkg/%s gets %d modules: %v", name, len(modules), modules)
			}
			t.Logf("%s: go %s, %d modules: %v", name, version[1], len(modules), modules)
		})
	}
}

// The page of package client is one that can be read: the generated names are in package api.
func TestThePageOfTheClientIsShort(t *testing.T) {
	t.Parallel()
	output, err := exec.CommandContext(t.Context(), "go", "doc", module+"/pkg/client").Output()
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?m)^ *(const|var|func|type) `).FindAllString(string(output), -1)
	if len(names) == 0 || len(names) >= 100 {
		t.Errorf("the page of the client lists %d names", len(names))
	}
	t.Logf("%d names", len(names))
}
