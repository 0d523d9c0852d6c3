#!/usr/bin/env python3
"""Writes what the recipe of our programs downloads: every crate of Cargo.lock, by its checksum.

crates.py           writes meta-stile/recipes-stile/programs/stile-crates.inc
crates.py --check   says whether that file is what it would write

The same list as openembedded-core's task update_crates makes; this needs no build folder.
"""

import pathlib
import sys
import tomllib

YOCTO = pathlib.Path(__file__).resolve().parent.parent
LOCK = YOCTO.parent / "Cargo.lock"
LIST = YOCTO / "meta-stile/recipes-stile/programs/stile-crates.inc"
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def text(lock):
    """The list of a parsed Cargo.lock; an error for a crate that no registry has."""
    crates = [package for package in lock["package"] if "source" in package]
    for crate in crates:
        if crate["source"] != REGISTRY:
            raise SystemExit(f"{crate['name']} {crate['version']} is from {crate['source']}, not crates.io")
    names = [(f"{crate['name']}-{crate['version']}", f"{crate['name']}/{crate['version']}", crate["checksum"])
             for crate in crates]
    lines = ["# Written by scripts/crates.py from Cargo.lock.", "", 'SRC_URI += "\\']
    lines += [f"    crate://crates.io/{where} \\" for _name, where, _sum in names]
    lines += ['"', ""]
    lines += [f'SRC_URI[{name}.sha256sum] = "{checksum}"' for name, _where, checksum in names]
    return "\n".join(lines) + "\n"


def main():
    with open(LOCK, "rb") as file:
        wanted = text(tomllib.load(file))
    if sys.argv[1:] == ["--check"]:
        if not LIST.exists() or LIST.read_text() != wanted:
            print(f"{LIST.name} is not what Cargo.lock says: run yocto/scripts/crates.py")
            return 1
        return 0
    if sys.argv[1:]:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    LIST.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
