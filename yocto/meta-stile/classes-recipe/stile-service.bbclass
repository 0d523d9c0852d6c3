# A service of a box: its program, built with all others by stile-programs, and its unit, as it lies in the
# checkout.
inherit stile-source

SECTION = "apps"
DEPENDS += "stile-programs"

# Programs and units, by default one of each by the recipe's name.
STILE_PROGRAMS ?= "${BPN}"
STILE_UNITS ?= "${BPN}.service"
STILE_FILES ?= "${@' '.join('appliance/systemd/' + unit for unit in d.getVar('STILE_UNITS').split())}"

do_configure[noexec] = "1"
do_compile[noexec] = "1"
# The workspace as it is, without a build of its own.
deltask do_buildclean

do_install() {
    for program in ${STILE_PROGRAMS}; do
        install -Dm 0755 ${STAGING_LIBEXECDIR}/stile-programs/$program ${D}${bindir}/$program
    done
    for unit in ${STILE_UNITS}; do
        install -Dm 0644 ${S}/appliance/systemd/$unit ${D}${systemd_system_unitdir}/$unit
    done
}

# What is enabled, the preset of stile-base says.
FILES:${PN} += "${systemd_system_unitdir}"
RDEPENDS:${PN} += "stile-base"
