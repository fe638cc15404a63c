package main

import (
	"fmt"
	"runtime/debug"
)

// versionCommand prints the version of this program.
type versionCommand struct {
	JSON bool `name:"json" help:"Print one JSON document."`
}

// Run prints the version, the revision and the Go release of the build.
func (c versionCommand) Run(s surroundings) error {
	version, revision, release := "unknown", "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version, release = info.Main.Version, info.GoVersion
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				revision = setting.Value
			}
		}
	}
	if c.JSON {
		return s.print(map[string]string{"version": version, "revision": revision, "go": release})
	}
	fmt.Fprintf(s.out, "steward %s (revision %s, %s)\n", version, revision, release)
	return nil
}
