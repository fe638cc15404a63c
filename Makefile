# Steward. "make help" lists what there is to do.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
# The public modules have a go.mod of their own, where ./... stops; they are built from this tree.
MODULE := github.com/fusionspim/steward
PUBLIC := pkg/client pkg/trailproof pkg/webhooksig
PACKAGES := ./... $(MODULE)/pkg/...
# Runs a command with a private PostgreSQL for tests, unless STEWARD_TEST_DATABASE_URL names one.
WITH_DATABASE := $(GO) run ./internal/testkit/dbtest/with

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: postgres ## Run the main job on several hundred invented people, and leave nothing behind
	@scripts/demo

.PHONY: dev
dev: postgres ## Run the service with a private database and ready-made accounts
	$(GO) run ./cmd/steward dev

.PHONY: build
build: ## Build the program into bin/
	$(GO) build -trimpath -o bin/steward ./cmd/steward

# The race detector makes hashing a password take four times as long, and has nothing to find there: these libraries compute, and share nothing.
RACE := -race -gcflags=golang.org/x/crypto/...=-race=false

# Tests wait more than they reckon, so more of them run at once than there are processors.
.PHONY: test
test: postgres chromium verify lint ## Run every check: generated files, format, linters, all tests with the race detector
	$(WITH_DATABASE) $(GO) test $(RACE) -shuffle=on -parallel 4 -timeout 45m $$($(GO) list $(PACKAGES) | grep -v /journeys/long)

# A package that needs a server for tests, or PostgreSQL's programs, says so by what its tests import.
NEEDS_POSTGRES := testkit/(dbtest|apptest)|dev/devpg|infra/pgprograms
UNIT = $$($(GO) list -f '{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./... | \
	grep -vE '$(NEEDS_POSTGRES)' | cut -d ' ' -f 1)

# Kill runs, races of hundreds of pairs, and the drill: what takes minutes and is not asked for with every change.
LONG := ./internal/testkit/journeys/long

.PHONY: test-long
test-long: postgres ## Run the tests of many rounds: kill runs, long races, every changed byte, and the drill
	$(WITH_DATABASE) $(GO) test $(RACE) -shuffle=on -parallel 4 -timeout 45m $(LONG)
	$(MAKE) --no-print-directory drill

.PHONY: test-unit
test-unit: ## Run the tests that need no database and no browser
	env -u STEWARD_TEST_DATABASE_URL $(GO) test -shuffle=on $(UNIT)

.PHONY: quick
quick: postgres chromium ## Run the tests without the race detector
	$(WITH_DATABASE) $(GO) test -shuffle=on -parallel 4 -timeout 45m $$($(GO) list $(PACKAGES) | grep -v /journeys/long)

.PHONY: drill
drill: postgres ## Restore a backup and show that nobody who was erased since comes back
	$(GO) run ./internal/testkit/bench/drill -report drill-report.json

.PHONY: drill-long
drill-long: postgres ## The same in 50 rounds of other people and other acts
	$(GO) run ./internal/testkit/bench/drill -rounds 50 -people 60 -report drill-report.json

.PHONY: bench
bench: postgres ## Compare with an ideal server on the same database, and run the Go benchmarks
	$(GO) run ./internal/testkit/bench/compare
	$(WITH_DATABASE) $(GO) test -run '^$$' -bench . -benchmem ./internal/testkit/bench/... ./internal/infra/contract ./internal/infra/token ./internal/infra/password

FUZZTIME ?= 10s
.PHONY: fuzz
fuzz: ## Fuzz every target, each for FUZZTIME (10s)
	@GO="$(GO)" scripts/fuzz $(FUZZTIME)

.PHONY: generate
generate: ## Generate code from openapi.yaml, and docs/data-inventory.md
	$(GO) tool oapi-codegen -config api/oapi-codegen.yaml openapi.yaml
	$(GO) tool oapi-codegen -config pkg/client/api/oapi-codegen.yaml openapi.yaml
	$(GO) run ./cmd/steward inventory > docs/data-inventory.md

.PHONY: verify
verify: ## Fail if a generated file is not what make generate makes
	@before=$$(mktemp -d); trap 'rm -rf "$$before"' EXIT; \
	cp --parents api/api.gen.go pkg/client/api/api.gen.go docs/data-inventory.md "$$before"; \
	$(MAKE) --no-print-directory generate; \
	for file in api/api.gen.go pkg/client/api/api.gen.go docs/data-inventory.md; do \
	  cmp "$$file" "$$before/$$file" || { echo "$$file is out of date; commit what make generate made" >&2; exit 1; }; \
	done
	@for module in . $(PUBLIC); do \
	  (cd $$module && echo "$(GO) mod tidy -diff; $(GO) mod verify # in $$module" && $(GO) mod tidy -diff && $(GO) mod verify) || exit 1; \
	done

.PHONY: lint
lint: ## Check format, go vet and staticcheck
	@unformatted=$$(git ls-files -z '*.go' | xargs -0 gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "not gofmt-ed: $$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	@for module in $(PUBLIC); do echo "$(GO) vet ./... # in $$module"; (cd $$module && $(GO) vet ./...) || exit 1; done
	$(GO) tool staticcheck $(PACKAGES)

.PHONY: postgres
postgres: ## Make sure that PostgreSQL's programs are here, or say how to get them
	@scripts/need-postgres

.PHONY: chromium
chromium: ## Make sure that a Chromium for the browser test is here, or say how to get one
	@scripts/need-chromium

# The schema, its roles and rules, and every command and SQL block of the documentation.
.PHONY: test-postgres
test-postgres: postgres ## Run the tests of the schema and the documentation on other versions of PostgreSQL
	@for version in 14 17 18; do \
	  echo "PostgreSQL $$version"; \
	  scripts/with-postgres $$version $(WITH_DATABASE) $(GO) test -count=1 -run 'Migrat|Catalogue|Row|Role|Door|Documentation' \
	    ./internal/testkit/dbtest ./internal/infra/postgres ./cmd/steward || exit 1; \
	done

.PHONY: hooks
hooks: ## Check the form of commit messages when committing
	git config core.hooksPath scripts/hooks

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
