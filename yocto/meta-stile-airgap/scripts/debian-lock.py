#!/usr/bin/env python3
"""Writes conf/distro/include/debian-sources.inc: where in Debian's archive each recipe's source is.

debian-lock.py WANTED [--archive URL] [--keyring FILE] [--suite SUITE]... > debian-sources.inc

WANTED has a line a recipe: `recipe  source-package  upstream-version`; `#` begins a comment. The indexes of
the suites are downloaded and checked: Debian's signature over the release file, the release file's checksum of
the index. The index states for every source package what its .dsc states, so no .dsc is needed; mirrors drop
those first.
"""

import argparse
import hashlib
import lzma
import re
import subprocess
import sys
import tempfile
import urllib.request

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def download(url):
    with urllib.request.urlopen(url, timeout=120) as answer:
        return answer.read()


def index(archive, suite, keyring):
    """The suite's list of sources, as text; an error where signature or checksum do not hold."""
    with tempfile.NamedTemporaryFile() as release:
        release.write(download(f"{archive}/dists/{suite}/InRelease"))
        release.flush()
        checked = subprocess.run(
            ["gpgv", "--keyring", keyring, "--output", "-", release.name], capture_output=True, text=True)
    if checked.returncode != 0:
        raise SystemExit(f"{suite}: the release file is not signed by Debian: {checked.stderr.strip()}")
    name = "main/source/Sources.xz"
    sums = checked.stdout.split("\nSHA256:\n", 1)[1]
    wanted = next(line.split()[0] for line in sums.splitlines() if line.endswith(" " + name))
    packed = download(f"{archive}/dists/{suite}/{name}")
    if hashlib.sha256(packed).hexdigest() != wanted:
        raise SystemExit(f"{suite}: {name} is not the one of the release file")
    return lzma.decompress(packed).decode()


def fields(paragraph):
    """The fields of one paragraph of an index, continuation lines joined by line feeds."""
    found = {}
    key = None
    for line in paragraph.splitlines():
        if line.startswith((" ", "\t")):
            found[key] += "\n" + line.strip()
        elif ":" in line:
            key, value = line.split(":", 1)
            found[key] = value.strip()
    return found


def upstream(version):
    """`1:6.3.0+dfsg-3` is upstream's 6.3.0: without epoch, revision, and what says that it was repacked."""
    version = version.split(":", 1)[-1]
    version = version.rsplit("-", 1)[0] if "-" in version else version
    version = re.sub(r"^.*\+really", "", version)
    return re.sub(r"[+.~](dfsg|ds|git|nmu).*$", "", version)


def tarball(source):
    """Directory, file and checksum of the orig tarball, or of a native package's only one."""
    sums = [line.split() for line in source["Checksums-Sha256"].splitlines() if line]
    tars = [(name, sha256) for sha256, _size, name in sums if re.search(r"\.tar\.[a-z0-9]+$", name)]
    orig = [tar for tar in tars if re.search(r"\.orig\.tar\.[a-z0-9]+$", tar[0])]
    if not orig and any(".debian.tar" in name for name, _ in tars):
        raise SystemExit(f"{source['Package']}: no orig tarball")
    name, sha256 = (orig or tars)[0]
    return source["Directory"], name, sha256


def wanted(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            words = line.split("#")[0].split()
            if words:
                recipe, package, version = words
                yield recipe, package, version


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("wanted")
    arguments.add_argument("--archive", default="http://deb.debian.org/debian")
    arguments.add_argument("--keyring", default=KEYRING)
    arguments.add_argument("--suite", action="append", default=[])
    given = arguments.parse_args()

    known = {}
    for suite in given.suite or ["trixie", "forky", "sid", "bookworm"]:
        for paragraph in index(given.archive, suite, given.keyring).split("\n\n"):
            source = fields(paragraph)
            if "Package" in source:
                known.setdefault((source["Package"], upstream(source["Version"])), source)
    print("# Written by scripts/debian-lock.py from debian-sources.list; see debian-source.bbclass.")
    missing = []
    for recipe, package, version in wanted(given.wanted):
        source = known.get((package, version))
        if source is None:
            has = sorted(one for name, one in known if name == package)
            missing.append(f"{package} {version} is in no suite; there are: {' '.join(has) or 'none'}")
            continue
        print(f'DEBIAN_SOURCE[{recipe}] = "{version} {" ".join(tarball(source))}"')
    for line in missing:
        print(line, file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
