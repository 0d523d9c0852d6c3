#!/usr/bin/env python3
"""Lists the known vulnerabilities of an image's packages. Standard library only, no network.

cve.py PACKAGES.tsv --debian TRACKER.json [--rustsec FOLDER] [--release trixie] [--json]

TRACKER.json is Debian's security tracker as one file (https://security-tracker.debian.org/tracker/data/json), FOLDER a
copy of https://github.com/rustsec/advisory-db. Both are downloaded by whoever runs this, at the time of the release.
Debian's verdict counts: what it has fixed in the version that is in the image, or says does not concern the release,
is left out. Exit status: 0 nothing open, 1 something open, 2 the report could not be made.
"""

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path


def order(letter):
    """How Debian sorts a character that is no digit: `~` before the end, letters before the rest."""
    if letter == "~":
        return -1
    return ord(letter) if letter.isalpha() else ord(letter) + 256


def part_key(text):
    """A sort key of an upstream version or revision by the rules of deb-version(7)."""
    key = []
    for letters, digits in re.findall(r"(\D*)(\d*)", text):
        if letters or digits:
            key += [[order(letter) for letter in letters] + [0], int(digits or 0)]
    # A part that ends sorts as if a text without characters came next: after `~`, before all else.
    return key + [[0], 0]


def debian_key(version):
    epoch, _, rest = version.rpartition(":") if ":" in version else ("0", "", version)
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
    return int(epoch), part_key(upstream), part_key(revision)


def debian_findings(rows, tracker, release):
    sources = {}
    for row in rows:
        if row["kind"] == "deb":
            name, version = row["source"], row["source version"]
            # A kernel that is signed, or built again for the release before, is the same source in other words.
            if re.fullmatch(r"linux(-signed)?(-\d+\.\d+)?(-signed)?(-amd64|-arm64)?", name):
                name, version = "linux", re.sub(r"~deb.*", "", row["version"])
            sources.setdefault((name, version), []).append(row["name"])
    for (source, version), names in sorted(sources.items()):
        for cve, entry in sorted(tracker.get(source, {}).items()):
            state = entry.get("releases", {}).get(release)
            if (
                state is None
                or state.get("urgency") == "not yet assigned"
                and state.get("status") == "undetermined"
            ):
                continue
            fixed = state.get("fixed_version")
            if state.get("status") == "resolved" and fixed is not None:
                # "0" is Debian's way to say that the release never had it.
                if fixed == "0" or debian_key(version) >= debian_key(fixed):
                    continue
            yield {
                "id": cve,
                "package": source,
                "version": version,
                "in": names,
                "urgency": state.get("urgency", ""),
                "fixed": fixed or "",
                "kept": state.get("nodsa", ""),
                "what": entry.get("description", "").split("\n")[0][:120],
            }


def semver(text):
    numbers, _, tail = text.split("+")[0].partition("-")
    triple = [int(number) for number in (numbers.split(".") + ["0", "0"])[:3]]
    return triple, tail == "", tail


def meets(version, requirement):
    """Whether a version meets a list of comparisons as the advisory database writes them (`>= 1.2.3, < 2`, `^1.2`)."""
    have = semver(version)
    for comparison in requirement.split(","):
        found = re.fullmatch(r"\s*(>=|<=|<|>|=|\^|~)?\s*([0-9][^\s]*)\s*", comparison)
        if not found:
            raise ValueError(f"{requirement!r} is no requirement")
        sign, want = found[1] or "^", semver(found[2])
        if sign in ("^", "~"):
            fixed = next((i for i, n in enumerate(want[0]) if n), 2) if sign == "^" else 1
            if sign == "~" and "." not in found[2]:
                fixed = 0
            if not (have >= want and have[0][: fixed + 1] == want[0][: fixed + 1]):
                return False
        elif not {
            ">=": have >= want,
            "<=": have <= want,
            "<": have < want,
            ">": have > want,
            "=": have == want,
        }[sign]:
            return False
    return True


def rustsec_findings(rows, folder):
    have = {}
    for row in rows:
        if row["kind"] == "crate":
            have.setdefault(row["name"], []).append(row["version"])
    for name, versions in sorted(have.items()):
        for file in sorted((folder / "crates" / name).glob("*.md")):
            text = file.read_text()
            found = re.match(r"```toml\n(.*?)\n```", text, re.DOTALL)
            if not found:
                raise ValueError(f"{file}: no advisory")
            record = tomllib.loads(found[1])
            advisory, ranges = record["advisory"], record.get("versions", {})
            if "withdrawn" in advisory:
                continue
            safe = ranges.get("patched", []) + ranges.get("unaffected", [])
            for version in versions:
                if not any(meets(version, requirement) for requirement in safe):
                    title = re.search(r"(?m)^# (.*)$", text)
                    yield {
                        "id": advisory["id"],
                        "package": name,
                        "version": version,
                        "in": [name],
                        "urgency": advisory.get("informational", "vulnerability"),
                        "fixed": "; ".join(ranges.get("patched", [])),
                        "kept": "",
                        "what": title[1][:120] if title else "",
                    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("packages", type=Path)
    parser.add_argument("--debian", type=Path, metavar="TRACKER.json")
    parser.add_argument("--rustsec", type=Path, metavar="FOLDER")
    parser.add_argument("--release", default="trixie")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.debian and not arguments.rustsec:
        parser.error("nothing to compare with: give --debian, --rustsec or both")
    header, *lines = arguments.packages.read_text().splitlines()
    rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    findings = []
    if arguments.debian:
        tracker = json.loads(arguments.debian.read_text())
        known = {row["source"] for row in rows if row["kind"] == "deb"} & set(tracker)
        if not known:
            raise ValueError(
                f"{arguments.debian}: not one of the image's packages is in it; is this the tracker's file?"
            )
        findings += debian_findings(rows, tracker, arguments.release)
    if arguments.rustsec:
        if not (arguments.rustsec / "crates").is_dir():
            raise ValueError(f"{arguments.rustsec}: no folder crates in it")
        findings += rustsec_findings(rows, arguments.rustsec)
    if arguments.json:
        print(json.dumps(findings, indent=1))
    else:
        for f in findings:
            fixed = (
                f"fixed in {f['fixed']}"
                if f["fixed"]
                else "not fixed" + (f" ({f['kept']})" if f["kept"] else "")
            )
            print(f"{f['id']}  {f['package']} {f['version']}  {f['urgency']}  {fixed}  {f['what']}")
        counted = sum(1 for f in findings if f["fixed"])
        left_out = [] if arguments.debian else ["Debian's packages"]
        left_out += [] if arguments.rustsec else ["crates"]
        print(
            f"{len(findings)} open, {counted} of them with a fix"
            + (f"; not looked at: {', '.join(left_out)}" if left_out else "")
        )
    return 1 if findings else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError, KeyError) as error:
        print(f"cve.py: {error}", file=sys.stderr)
        sys.exit(2)
