# The two commands of the README are `make demo` and `make test`.
GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
export GOFLAGS ?= -mod=readonly

.PHONY: build demo test check fmt bench clean

build:
	@echo "Building (the first time compiles the modules, which takes a few minutes)…"
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/lockkeeper ./cmd/lockkeeper

demo: build
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/demo ./demo
	./bin/demo --bin bin/lockkeeper

# RACE=-race switches the race detector on; it needs a C compiler.
test:
	$(GO) test $(RACE) ./...

# check is what CI runs.
check:
	@test -z "$$(gofmt -l .)" || { echo "Not formatted:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	CGO_ENABLED=0 $(GO) build ./...
	$(MAKE) test RACE="$(RACE)"

bench:
	$(GO) test -run '^$$' -bench . -benchtime 2s ./internal/...

clean:
	rm -rf bin
