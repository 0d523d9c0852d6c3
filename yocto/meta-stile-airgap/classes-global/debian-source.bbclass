# Upstream sources from Debian's source archive.
#
# Debian keeps for every source package the tarball of its upstream (the "orig" tarball). Where a recipe's
# own source cannot be reached, this class takes that one: the first entry of SRC_URI that is not a file of
# the layer gives way to the tarball, and everything else of the recipe (patches, configuration, licences)
# stays as it is.
#
#   INHERIT += "debian-source"
#   DEBIAN_SOURCE[recipe] = "VERSION DIRECTORY FILE SHA256"
#
# by the recipe's BPN; conf/distro/include/debian-sources.inc has them, written by scripts/debian-lock.py.
# DIRECTORY is that of Debian's index, and SHA256 what the index, signed by Debian's archive key, says of
# the file. VERSION is upstream's: where it is not the recipe's, the recipe's becomes that one, so that
# packages say what they are.
#
#   DEBIAN_SOURCE_FOLDER[recipe] = "src"
#
# says which folder of the tarball is what the recipe expects, where upstream packs that alone.
#
#   DEBIAN_SOURCE_WITHOUT[recipe] = "fix.patch ..."
#
# names what is left out of SRC_URI besides: patches that Debian's version has already or that are for
# another version, and further downloads that no package needs. conf/distro/include/debian-patches.inc.
#
# Debian repacks some tarballs, so their bytes and the folder inside are not upstream's: the folder's name
# is dropped. A repacked tarball may lack files (documents under the GFDL); what that asks for is in a
# bbappend of this layer, under the override `airgap`, so that the layer changes nothing in a build that
# does not inherit this class.
#
#   DEBIAN_NESTED = "gcc-15.3.0.tar.xz"     the true source is a tarball inside of the tarball
#   DEBIAN_UNPACK = "0"                     the tarball is left as it is
#   DEBIAN_MISSING = "doc/Makefile.am ..."  files that the build asks for and nobody reads: made empty

OVERRIDES .= ":airgap"

# Any mirror of Debian's archive; the checksums make a foreign one as good as Debian's.
DEBIAN_ARCHIVE ?= "http://deb.debian.org/debian"
DEBIAN_NESTED ?= ""
DEBIAN_MISSING ?= ""
DEBIAN_UNPACK ?= "1"

def debian_source_entry(d):
    """The fetcher's line and checksum for this recipe, whose PV and S become those of the tarball; or None: it keeps
    its own source."""
    locked = d.getVarFlag("DEBIAN_SOURCE", d.getVar("BPN"))
    if not locked:
        return None
    fields = locked.split()
    if len(fields) != 4:
        bb.fatal("DEBIAN_SOURCE[%s] is not 'VERSION DIRECTORY FILE SHA256': %s" % (d.getVar("BPN"), locked))
    version, directory, name, sha256 = fields
    if not d.getVar("PN").endswith(version):
        d.setVar("PV", version)
    entry = "%s/%s/%s;name=debian" % (d.getVar("DEBIAN_ARCHIVE"), directory, name)
    if d.getVar("DEBIAN_UNPACK") == "0":
        return entry + ";unpack=0", sha256
    inside = os.path.relpath(d.getVar("S"), d.getVar("UNPACKDIR"))
    if inside == "." or inside.startswith(".."):
        bb.fatal("%s: S is not a folder below UNPACKDIR, so Debian's tarball has no place" % d.getVar("PN"))
    folder = d.getVarFlag("DEBIAN_SOURCE_FOLDER", d.getVar("BPN"))
    if folder:
        d.setVar("S", os.path.join(d.getVar("S"), folder))
    return "%s;subdir=%s;striplevel=1" % (entry, inside), sha256

python debian_source_take() {
    found = debian_source_entry(d)
    if found is None:
        return
    entries = (d.getVar("SRC_URI") or "").split()
    remote = [entry for entry in entries if not entry.startswith("file://")]
    if not remote:
        return
    entry, sha256 = found
    entries[entries.index(remote[0])] = entry
    without = (d.getVarFlag("DEBIAN_SOURCE_WITHOUT", d.getVar("BPN")) or "").split()
    d.setVar("SRC_URI", " ".join(one for one in entries if os.path.basename(one.split(";")[0]) not in without))
    d.setVarFlag("SRC_URI", "debian.sha256sum", sha256)
    d.appendVarFlag("do_unpack", "postfuncs", " debian_source_complete")
}
addhandler debian_source_take
debian_source_take[eventmask] = "bb.event.RecipePreFinalise"

python debian_source_complete() {
    import subprocess
    source = d.getVar("S")
    nested = d.getVar("DEBIAN_NESTED")
    if nested:
        inner = os.path.join(source, nested)
        subprocess.run(["tar", "--extract", "--no-same-owner", "--strip-components=1", "--file", inner,
                        "--directory", source], check=True)
        os.unlink(inner)
    for missing in d.getVar("DEBIAN_MISSING").split():
        path = os.path.join(source, missing)
        bb.utils.mkdirhier(os.path.dirname(path))
        if not os.path.exists(path):
            open(path, "w").close()
}
