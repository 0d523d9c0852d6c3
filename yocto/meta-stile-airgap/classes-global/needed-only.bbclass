# What nobody installs, nobody builds.
#
# bitbake builds what any package of a recipe needs at run time, and what it recommends, whether or not an
# image takes that package. Images of Stile take no recommendations (NO_RECOMMENDATIONS), and none of the
# packages named here; without this, a shell, Perl, Python and what those need would be built to be thrown
# away.
#
#   INHERIT += "needed-only"
#   UNNEEDED_PACKAGES += "openssl-misc *-bash-completion"
#
# Patterns as a shell has them. An image that takes such a package gets it without what it depends on.

UNNEEDED_PACKAGES ?= ""

python () {
    import fnmatch
    if bb.data.inherits_class("native", d) or bb.data.inherits_class("cross", d):
        return
    unneeded = d.getVar("UNNEEDED_PACKAGES").split()
    for package in (d.getVar("PACKAGES") or "").split():
        d.setVar("RRECOMMENDS:" + package, "")
        if any(fnmatch.fnmatch(package, pattern) for pattern in unneeded):
            d.setVar("RDEPENDS:" + package, "")
}
