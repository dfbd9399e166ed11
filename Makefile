# make            build, test what needs no root, lint: about a minute
# make test       everything that CI runs
# make help       the rest

GO      ?= go
GOFLAGS ?= -trimpath
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X hull/engine.buildVersion=$(VERSION)
export CGO_ENABLED = 0

LIBEXEC  = bin/libexec/hull
HELPERS  = $(notdir $(patsubst %/main.go,%,$(wildcard cmd/hull-*/main.go)))

.PHONY: all build test unit root corpus crash races power soak vm images lint cross fmt bench fuzz golden oci docs install clean help

all: build unit lint

build: bin/hull $(HELPERS:%=$(LIBEXEC)/%)

# The Go tool knows better than make what is up to date. The linker writes a
# program page by page; its copy lies in larger pieces in the kernel's cache, as
# an installed program does, and starts a third of a millisecond sooner.
LINKED = .linked
.PHONY: bin/hull $(HELPERS:%=$(LIBEXEC)/%)
bin/hull:
	$(call link,hull)
$(HELPERS:%=$(LIBEXEC)/%): $(LIBEXEC)/%:
	$(call link,$*)
define link
	$(GO) build $(GOFLAGS) -ldflags='$(LDFLAGS)' -o $(LINKED)/$(1) ./cmd/$(1)
	@mkdir -p $(@D)
	@cp -u --remove-destination $(LINKED)/$(1) $@
endef

unit: ## tests that need no root; those that do say so and skip
	$(GO) test ./...

root: build ## tests that need root, on this machine, cleaned up after
	$(GO) test -count=1 -timeout 20m ./...

CRASH_RUNS ?= 100
crash: ## 47 commands killed, and made to fail, at every call that writes (CRASH_SHARD=i/n a share); five at CRASH_RUNS random moments
	CRASH_FULL=1 $(GO) test -count=1 -timeout 180m -run AtEveryCall -v ./test
	HULL_CRASH_RUNS=$(CRASH_RUNS) $(GO) test -count=1 -timeout 60m -run KilledCommands -v ./engine
	HULL_CRASH_RUNS=$(CRASH_RUNS) $(GO) test -count=1 -timeout 60m -run F07Killed -v ./build

PEER ?= podman --runtime runc
corpus: ## the corpus of Containerfiles, built by Hull and by PEER (podman) as root: what differs, and counts
	dir=$$(mktemp -d) && $(GO) test -count=1 -timeout 60m -run 'TestCorpus$$' -v ./build -peer "$(PEER) --root $$dir/root --runroot $$dir/run"; \
	rc=$$?; $(PEER) --root $$dir/root --runroot $$dir/run rmi -af >/dev/null 2>&1; rm -rf --one-file-system $$dir; exit $$rc

races: ## the races of docs/security-tests.md, as often as they ask
	HULL_RACES=full $(GO) test -count=1 -timeout 120m -run 'RT0|RT1|VOL04|EXEC03|BLD0|BLD1' -v ./engine ./ociruntime ./build

POWER_CUTS ?= 1000
power: ## power cuts: POWER_CUTS of each kind of disk
	HULL_POWER_CUTS=$(POWER_CUTS) $(GO) test -count=1 -timeout 300m -v ./test/power

soak: build ## 20,000 lifecycles with kills, 1,000 containers at once; what grows? SOAK_RUNS, SOAK_MANY
	$(GO) run ./hack/soak

vm: build ## in virtual machines with cgroup v2, systemd and security modules: see hack/vm/run
	hack/vm/run

test: lint build root ## everything CI runs

lint: ## formatting and vet
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run make fmt'; exit 1; }
	$(GO) vet ./...

cross: ## builds and vets everything for arm64
	GOARCH=arm64 $(GO) build ./...
	GOARCH=arm64 $(GO) vet ./...

fmt:
	gofmt -w $$(git ls-files '*.go')

golden: ## rewrite golden files; review the difference
	$(GO) test ./... -update

FUZZTIME ?= 5m
fuzz: ## every fuzz target for FUZZTIME
	GO=$(GO) FUZZTIME=$(FUZZTIME) hack/fuzz

bench: build ## side by side with the floor and the peers: medians and ratios
	$(GO) run ./hack/bench

IMAGES ?= bin/images
REGISTRY ?= 127.0.0.1:5000
images: build ## images of real programs from Debian's packages, in a registry's directory below IMAGES: hull registry serve -a REGISTRY IMAGES/registry
	hack/images $(IMAGES)
	hack/images --push $(IMAGES) $(REGISTRY)

oci: build ## what runtime-tools and runc test of a runtime, against hull-runtime, as root: counts, and what fails
	ln -sf hull bin/hull-runtime
	RUNTIME=bin/hull-runtime hack/oci-validate/validate.sh tools
	RUNTIME=bin/hull-runtime hack/oci-validate/validate.sh bats

docs: ## manual pages and shell completions, from the table of commands
	$(GO) run ./hack/docs bin/share

PREFIX ?= /usr/local
UNITS = $(DESTDIR)$(PREFIX)/lib/systemd
install: build ## to PREFIX (/usr/local)
	install -D -m 755 bin/hull $(DESTDIR)$(PREFIX)/bin/hull
	for f in $(HELPERS); do install -D -m 755 $(LIBEXEC)/$$f $(DESTDIR)$(PREFIX)/libexec/hull/$$f; done
	install -d $(addprefix $(UNITS)/,system user system-generators user-generators)
	for f in system user; do ln -sfn ../../../bin/hull $(UNITS)/$$f-generators/hull-$$f-generator; done
	for f in system user; do sed 's|@BINDIR@|$(PREFIX)/bin|' systemd/hull-restart.service.in >$(UNITS)/$$f/hull-restart.service; done
	install -m 644 systemd/podman-user-wait-network-online.service $(UNITS)/user/

clean:
	rm -rf bin $(LINKED)

help:
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
