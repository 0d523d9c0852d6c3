# A target that has the build machine's own triple, because its standard library was built for that
# (conf/distro/include/rust-bin.inc).
#
# cargo knows one linker a triple, and crates that compile C one compiler; build scripts and macros run on
# the build machine, programs do not. What cargo makes for the target lies below a folder of the triple's
# name, and by that the linker is chosen.

RUST_BIN_CCLD = "${WRAPPER_DIR}/rust-bin-ccld"
CARGO_RUST_TARGET_CCLD:class-target = "${RUST_BIN_CCLD}"
RUST_BIN_TRIPLE_ = "${@d.getVar('RUST_HOST_SYS').replace('-', '_')}"

do_rust_create_wrappers:append:class-target() {
    cat > ${RUST_BIN_CCLD} <<-EOF
	#!/bin/sh
	before=
	for word; do
	    case "\$before \$word" in
	    "-o ${B}/target/${RUST_HOST_SYS}/"*) exec ${RUST_TARGET_CCLD} "\$@" ;;
	    esac
	    before=\$word
	done
	exec ${RUST_BUILD_CCLD} "\$@"
	EOF
    chmod +x ${RUST_BIN_CCLD}
}

do_compile:prepend:class-target() {
    export CC_${RUST_BIN_TRIPLE_}="${RUST_TARGET_CC}" CXX_${RUST_BIN_TRIPLE_}="${RUST_TARGET_CXX}"
    export CFLAGS_${RUST_BIN_TRIPLE_}="${CFLAGS}" CXXFLAGS_${RUST_BIN_TRIPLE_}="${CXXFLAGS}"
    export AR_${RUST_BIN_TRIPLE_}="${RUST_TARGET_AR}"
}
