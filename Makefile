# Stile's commands. `make run` and `make test` install what a fresh Debian or Ubuntu machine with Rust lacks.

SHELL := /bin/bash
CACHE := .cache
ORT_VERSION := 1.31.1
ORT := $(CACHE)/onnxruntime/libonnxruntime.so
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# cmake: the QR decoder; libclang-dev: the kernel's video header; mosquitto: the broker of the bus tests; fontconfig and a CJK font: the screens.
PACKAGES := build-essential cmake libclang-dev pkg-config python3 python3-pip mosquitto libfontconfig-dev fonts-noto-cjk libxkbcommon-x11-0 libxkbcommon0

export STILE_ONNXRUNTIME ?= $(abspath $(ORT))

# The virtual machine's own: an emulator, and what unpacks its kernel and builds two modules for it.
VM_PACKAGES := qemu-system-x86 qemu-system-arm qemu-system-gui qemu-utils ovmf swtpm nginx-light netcat-openbsd openssl dosfstools mtools e2fsprogs xz-utils kmod
# The reference image: Debian's packages, file systems, disk images; the screen's libraries without a desktop. rauc and
# systemd are taken from the packages that are unpacked, systemctl from the machine that builds.
IMAGE_PACKAGES := mmdebstrap debian-archive-keyring uidmap squashfs-tools cryptsetup-bin mtools dosfstools binutils cpio zstd xz-utils \
  kmod systemd openssl sbsigntool efitools faketime libinput-dev libudev-dev libxkbcommon-dev gcc-aarch64-linux-gnu g++-aarch64-linux-gnu
# make image VARIANT=stile-sim PROFILE=dev KEYS=folder VERSION=1.2.3
VARIANT ?= stile
PROFILE ?= release
# The decoders that ours is measured against.
DECODER_PACKAGES := python3-venv libzbar0

.PHONY: help run day test lint bench bench-decoders campaign vm-test vm-pi vm vm-image-test image-campaign image yocto-lint

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: deps ## the simulated store, live: console page, gate and kiosk screens, a table at the end (ARGS="--shoppers 20")
	cargo build --release -p box
	exec target/release/box run $(ARGS)

day: deps ## one simulated day as fast as it can (ARGS="--seed 7 --shoppers 50")
	cargo build --release -p box
	exec target/release/box day $(ARGS)

test: deps ## everything that CI checks
	cargo fmt --all --check
	cargo test --workspace --locked
	tests/vm/image/short.sh

lint: deps ## clippy, warnings as errors
	cargo clippy --workspace --all-targets --locked -- -D warnings

bench: deps ## the numbers of the README
	cargo bench --locked -p gated --bench gate -p engine --bench floor --bench gate_walks -p store-sim --bench render \
	  -p kiosk --bench screen -p recognition --bench detect -p palm --bench palm -p cartd --bench ledger
	cargo build --release --locked -p box
	for seed in 1 2 3; do STILE_LOG=error target/release/box day --seed $$seed --shoppers 50 || exit 1; done
	$(MAKE) bench-decoders
	$(MAKE) vm-test ARGS="floor latency --entries 500"

bench-decoders: deps $(CACHE)/decoders/packages.stamp ## QR decoders side by side, and phone shown to code read (FOLDERS="../shared/data/qr")
	cd tests/decoders && { [ -d .venv ] || python3 -m venv .venv; } && .venv/bin/pip install -q -r requirements.txt
	cd tests/decoders && cargo run --release --locked -- compare --count 2 --python .venv/bin/python $(abspath $(FOLDERS))
	cd tests/decoders && for w in 1280 640; do cargo run --release --locked -- shows --count 100 --width $$w || exit 1; done

campaign: deps ## the long form: 100,000 shoppers with faults, 20 million steps of random walks, power cuts by the thousand
	cargo bench --locked -p gated --bench campaign -- --entries 100000 --seed 1
	cargo bench --locked -p engine --bench gate_walks -- 20000000 1000000
	$(MAKE) image-campaign

vm-test: deps $(CACHE)/vm/packages.stamp ## drivers and gate on a real kernel's GPIO, USB and video, in QEMU (ARGS="--list"; tests/vm); without ARGS the image, too
	tests/vm/kernel.sh $(CACHE)/vm/kernel
	cargo run --locked -p vm --bin vm -- --kernel $(CACHE)/vm/kernel $(ARGS)
	[ "$(ARGS)" ] || $(MAKE) vm-image-test

ARM := aarch64-unknown-linux-gnu
PI_KERNEL := $(CACHE)/image/arm64/kernel-*/root
vm-pi: deps $(CACHE)/vm/packages.stamp $(CACHE)/image/packages.stamp ## a turnstile on an emulated Raspberry Pi's registers
	image/reference/build.sh --board raspberry-pi packages kernel
	eval "$$(image/reference/cross.sh $(CACHE)/image/arm64)" && \
	  cargo build --locked --target $(ARM) -p turnstile --example raspberry_pi && cargo build --locked --target $(ARM) -p gate-failsafe
	cargo run --locked -p vm --bin vm-pi -- --programs $(or $(CARGO_TARGET_DIR),target)/$(ARM)/debug \
	  --kernel $$(ls -t $(PI_KERNEL)/boot/vmlinuz-* | head -1) --device-tree $$(ls -t $(PI_KERNEL)/usr/lib/linux-image-*/broadcom/bcm2837-rpi-3-b.dtb | head -1)

# The tested image: with simulated devices around it. Programs of the dev profile take two to three times as long in
# there, and its time limits are for those of the release profile.
VM_IMAGE := out/image/stile-x86-64-sim.img
VM_IMAGE_TOOLS = cargo build --release --locked -p vm -p osimage --bins

vm: deps $(CACHE)/vm/packages.stamp ## the image in a window, or VNC without a display: play shopper with the enter key (ARGS="--port 8480")
	[ -e $(VM_IMAGE) ] || $(MAKE) image VARIANT=stile-sim
	$(VM_IMAGE_TOOLS)
	target/release/vm-image play $(ARGS)

vm-image-test: deps $(CACHE)/vm/packages.stamp ## the image in QEMU, from power to a served shopper, updates, faults (ARGS="--short", ARGS="--list"; tests/vm)
	[ -e $(VM_IMAGE) ] || $(MAKE) image VARIANT=stile-sim
	$(VM_IMAGE_TOOLS)
	[ "$(filter --short --list,$(ARGS))" ] || tests/vm/image/bundles.sh
	target/release/vm-image prove $(ARGS)

image-campaign: deps $(CACHE)/vm/packages.stamp ## power cuts by the thousand: first boot, visits, update, factory reset
	[ -e $(VM_IMAGE) ] || $(MAKE) image VARIANT=stile-sim
	$(VM_IMAGE_TOOLS)
	[ -e out/vm-image/bundles/next.raucb ] || tests/vm/image/bundles.sh
	target/release/vm-image --disk 3072 record out/vm-image/recording --next out/image-next/work-stile-x86-64-sim --reset
	target/release/vm-image cut out/vm-image/recording --torn 8 --json out/vm-image/recording/outcome.json
	target/release/vm-image boot out/vm-image/recording --sample 10

image: deps $(CACHE)/vm/packages.stamp $(CACHE)/image/packages.stamp ## the reference image: out/image (VARIANT=stile-sim PROFILE=dev KEYS=... VERSION=...)
	image/reference/build.sh --variant $(VARIANT) --profile $(PROFILE) $(if $(KEYS),--keys $(KEYS)) $(if $(VERSION),--version $(VERSION)) $(ARGS)

# The checks of the layers that need Python packages; `make test` runs them too once they are there.
yocto-lint: ## kas files against kas's schema, recipes against oelint-adv (yocto)
	@[ -x $(CACHE)/yocto/venv/bin/oelint-adv ] || { python3 -m venv $(CACHE)/yocto/venv && \
	  $(CACHE)/yocto/venv/bin/pip install -q kas==5.5 oelint-adv==9.11.2; }
	cargo test --locked -p it yocto

.PHONY: deps
deps: $(CACHE)/packages.stamp $(ORT)

# Asks the package manager only when something is missing, so that an offline machine with everything works.
$(CACHE)/packages.stamp: WANTED = $(PACKAGES)
$(CACHE)/vm/packages.stamp: WANTED = $(VM_PACKAGES)
$(CACHE)/decoders/packages.stamp: WANTED = $(DECODER_PACKAGES)
$(CACHE)/image/packages.stamp: WANTED = $(IMAGE_PACKAGES)
$(CACHE)/packages.stamp $(CACHE)/vm/packages.stamp $(CACHE)/decoders/packages.stamp $(CACHE)/image/packages.stamp: Makefile
	@mkdir -p $(@D)
	@if command -v dpkg-query >/dev/null; then \
	  missing=$$(for p in $(WANTED); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	  if [ -n "$$missing" ]; then echo "installing: $$missing"; \
	    $(SUDO) apt-get update -q && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -q --no-install-recommends $$missing; fi; \
	else echo "not a Debian or Ubuntu machine: install the likes of $(WANTED) by hand"; fi
	@touch $@

# ONNX Runtime comes as the shared library inside its Python wheel; nothing of Python is used.
$(ORT): models/onnxruntime.py
	python3 models/onnxruntime.py $(ORT_VERSION) $(dir $@)
	@touch $@
