package main

import (
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/dev/devmail"
)

// inventoryCommand prints what the service stores.
type inventoryCommand struct{}

// Help implements kong.HelpProvider.
func (inventoryCommand) Help() string {
	return `The page is Markdown: each table, folder of objects and other store, whose data it holds, for how long, and
what an erasure, the end of a contract and a restore do to it.`
}

// Run prints the page.
func (inventoryCommand) Run(s surroundings) error {
	return inventory.Markdown(s.out, append(app.Stores(), inventory.From("dev/devmail", devmail.Stores())...))
}
