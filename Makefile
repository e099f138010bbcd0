# An index: each target is one command, whose file says what it does. Start with `make demo`.
.PHONY: setup build demo test test-6.8 bench lint sanitize wheel wheel-aarch64 docs clean vm

setup:
	@tools/setup $(if $(filter setup test% bench lint sanitize,$(MAKECMDGOALS)),--tests)
build: setup
	@tools/build
demo: build
	@tools/demo
test: build
	@tools/test
test-6.8: build
	@tools/test-6.8
bench: build
	@tools/bench
lint: build
	@tools/lint
sanitize: build
	@tools/sanitize
docs: build
	@tools/docs
wheel: setup
	@tools/wheel
wheel-aarch64: build
	@tools/wheels/aarch64
clean:
	rm -rf build dist .venv
vm: export VM_CMD = $(value CMD)
vm: build  # make vm KERNEL=7.2 CMD='ip link'
	@[ -n "$$VM_CMD" ] || { echo "vm: say what to run: make vm KERNEL=7.2 CMD='ip link'" >&2; exit 2; }
	@tests/support/vm/run --kernel $(or $(KERNEL),7.2) -- sh -c "$$VM_CMD"
