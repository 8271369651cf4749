# MySpinBot. `make help` lists what can be done here; every target sets up what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
GOLANGCI := .deps/bin/golangci-lint-v2.15.0
GENERATE := cd api && go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config codegen/config.yaml openapi.yaml
MODULES := . cmd/myspinbot-devstack deploy/compose bench
ARGS ?=
TESTFLAGS ?=
DB ?=
# The demo's inputs go through the environment as they are: neither make nor a shell reads them.
override PORTRAIT := $(value PORTRAIT)
override TEXT := $(value TEXT)
export PORTRAIT TEXT

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: deps build ## two talking videos from a photo, in demo-output/ (PORTRAIT=me.jpg TEXT="…" for your own)
	@bin/myspinbot demo $(ARGS)

.PHONY: dev
dev: deps build ## the whole system on this machine until Ctrl-C (ARGS="…" goes to myspinbot dev)
	@bin/myspinbot dev $(ARGS)

.PHONY: build
build: ## bin/myspinbot, and bin/myspinbot-devstack for development
	go build -trimpath -o bin/ ./cmd/myspinbot
	go -C cmd/myspinbot-devstack build -trimpath -o ../../bin/ .

.PHONY: deps
deps: ## programs and files that running needs: ffmpeg, flite, PostgreSQL, face weights
	@deploy/deps/install.sh runtime

.PHONY: deps-test
deps-test: ## what the tests need as well: Apache Kafka, a speech recogniser, a client for the API
	@deploy/deps/install.sh test

.PHONY: test
test: deps deps-test build ## every test, with minutes by part (TESTFLAGS="-run …" narrows them)
	@.ci/test $(TESTFLAGS)

.PHONY: lint
lint: $(GOLANGCI) ## go vet, golangci-lint, the proof that the import fences hold, and that what is generated is current
	@set -e; for m in $(MODULES); do \
	  (cd $$m && go vet ./... && $(CURDIR)/$(GOLANGCI) run --config $(CURDIR)/.golangci.yml --allow-parallel-runners ./...); done
	@.ci/fences $(CURDIR)/$(GOLANGCI)
	@($(GENERATE)) | cmp - api/contract.gen.go || { echo 'api/contract.gen.go is not what api/openapi.yaml says: run make generate' >&2; exit 1; }

$(GOLANGCI):
	GOBIN=$(CURDIR)/.deps/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	@mv .deps/bin/golangci-lint $@

.PHONY: bench
bench: deps deps-test build ## measure, beside a peer in the same run, into bench-output/ (ONLY=id,id ROUNDS=5)
	@go -C bench build -trimpath -o ../bin/myspinbot-bench .
	@bin/myspinbot-bench -only '$(ONLY)' -rounds '$(or $(ROUNDS),5)'

.PHONY: chaos
chaos: deps deps-test build ## kill, freeze and cut off a real cluster under load, KILLS times each role (20), then hold it against its promises
	@mkdir -p bench-output && KILLS='$(or $(KILLS),20)' CHAOS_REPORT=$(CURDIR)/bench-output/chaos.md go test -count=1 -timeout 90m -v -run '^TestChaos$$' ./cmd/myspinbot

.PHONY: fuzz
fuzz: deps deps-test build ## try the API by its contract, as a client that knows nothing else, with CASES requests (5,000)
	CASES='$(or $(CASES),5000)' go test -count=1 -timeout 90m -v -run '^TestAForeignClientFindsNoFault$$' ./api

.PHONY: vulncheck
vulncheck: ## known vulnerabilities that the code reaches, by the Go vulnerability database (DB=URL for a copy of it)
	@set -e; for m in $(MODULES); do \
	  echo "$$m"; (cd $$m && go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 $(if $(DB),-db '$(DB)') ./...); done

.PHONY: mutants
mutants: deps deps-test build ## plant known mistakes into the code, and see that a checker catches each (ONLY=pattern)
	@go run ./internal/mutants -only '$(ONLY)'

.PHONY: generate
generate: ## api/contract.gen.go, the types and routes of the contract
	@($(GENERATE)) >api/contract.gen.go.new && mv api/contract.gen.go.new api/contract.gen.go

.PHONY: fmt
fmt: ## format the Go code
	gofmt -w $$(git ls-files '*.go')
