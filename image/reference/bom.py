#!/usr/bin/env python3
"""Writes what an image is made of. Standard library only; asks dpkg-deb and cargo.

bom.py WORK OUT NAME VERSION PROGRAM...

WORK is the folder of a build (its tree, initrd and program list), OUT/NAME the prefix of what is written:
NAME.packages.tsv, NAME.spdx.json (SPDX 2.3) and NAME.licences/. A Debian package counts if a file of it is in the
image; a crate if one of the programs is linked with it.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
LICENCE_FILE = re.compile(r"(?i)^(licen[cs]e|copying|copyright|notice|unlicense|third.?party)")
# Short names of Debian's machine-readable copyright files, as SPDX writes them.
SPDX_NAMES = {
    "expat": "MIT",
    "mit": "MIT",
    "apache-2": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "gpl-1+": "GPL-1.0-or-later",
    "gpl-2": "GPL-2.0-only",
    "gpl-2+": "GPL-2.0-or-later",
    "gpl-3": "GPL-3.0-only",
    "gpl-3+": "GPL-3.0-or-later",
    "lgpl-2": "LGPL-2.0-only",
    "lgpl-2+": "LGPL-2.0-or-later",
    "lgpl-2.1": "LGPL-2.1-only",
    "lgpl-2.1+": "LGPL-2.1-or-later",
    "lgpl-3": "LGPL-3.0-only",
    "lgpl-3+": "LGPL-3.0-or-later",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "isc": "ISC",
    "zlib": "Zlib",
    "epl-2.0": "EPL-2.0",
    "ofl-1.1": "OFL-1.1",
    "sil-1.1": "OFL-1.1",
    "mpl-2.0": "MPL-2.0",
    "cc0-1.0": "CC0-1.0",
    "cc0": "CC0-1.0",
    "boost-1.0": "BSL-1.0",
    "gpl-2.0+": "GPL-2.0-or-later",
    "lgpl-2.0+": "LGPL-2.0-or-later",
    "gpl-3.0+": "GPL-3.0-or-later",
    "0bsd": "0BSD",
    "afl-2.1": "AFL-2.1",
    "edl-1.0": "BSD-3-Clause",
    "unicode": "Unicode-DFS-2016",
    "artistic": "Artistic-1.0-Perl",
    "x11": "X11",
}


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, **options).stdout


def debian(deb, places):
    """What a Debian package brings into the image; None when nothing of it is there."""
    fields = dict(
        line.split(": ", 1)
        for line in run(
            "dpkg-deb", "-f", str(deb), "Package", "Version", "Architecture", "Source", text=True
        ).splitlines()
    )
    files = size = 0
    copyright_path = None
    for line in run("dpkg-deb", "-c", str(deb), text=True).splitlines():
        mode, _, _, _, _, rest = line.split(None, 5)
        path = rest.split(" -> ")[0].split(" link to ")[0].removeprefix("./")
        if re.fullmatch(r"usr/share/doc/[^/]+/copyright", path) and mode[0] == "-":
            copyright_path = path
        plain = re.sub(r"\.xz$", "", path)
        here = [
            place / plain for place in places if not plain.endswith("/") and os.path.lexists(place / plain)
        ]
        if not here and plain.startswith(("lib/", "boot/")):
            here = [place / "usr" / plain for place in places if os.path.lexists(place / "usr" / plain)]
        if mode[0] in "-lh" and here:
            files += 1
            size += os.lstat(here[0]).st_size if mode[0] == "-" else 0
    source = fields.get("Source", fields["Package"])
    found = re.fullmatch(r"(\S+) \((.*)\)", source)
    text = b""
    if copyright_path:
        archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
        text = run("tar", "xO", "./" + copyright_path, stdin=archive.stdout)
        archive.wait()
    return {
        "name": fields["Package"],
        "version": fields["Version"],
        "arch": fields["Architecture"],
        "source": found[1] if found else source,
        "source_version": found[2] if found else fields["Version"],
        "files": files,
        "bytes": size,
        "copyright": text,
        "sha256": hashlib.sha256(deb.read_bytes()).hexdigest(),
    }


def licences_of(text):
    """The SPDX names in a machine-readable copyright file, and whether all of its names are known."""
    names, whole = set(), True
    if not re.search(rb"(?im)^format:.*copyright-format", text):
        return [], False
    for line in re.findall(r"(?m)^License: *(.+)$", text.decode(errors="replace")):
        for name in re.split(r"\s+(?:and/or|or|and|with .*?exception)\s*|,\s*|\s+\|\s+", line.strip()):
            known = SPDX_NAMES.get(name.strip().lower())
            if known:
                names.add(known)
            elif name.strip():
                whole = False
    return sorted(names), whole


def crates(programs, target):
    """Crates that the programs are linked with: of the repository's own and from crates.io."""
    found = {}
    own_version = tomllib.loads((TOP / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    for program in programs:
        command = [
            "cargo",
            "tree",
            "--locked",
            "-e",
            "normal",
            "--target",
            target,
            "--prefix",
            "none",
            "-f",
            "{p}|{l}",
            "-p",
            f"{program}@{own_version}",
        ]
        if program == "kiosk":
            command += ["--no-default-features", "--features", "linuxkms"]
        for line in run(*command, text=True, cwd=TOP).splitlines():
            name, _, licence = line.replace(" (*)", "").partition("|")
            words = name.split()
            if len(words) >= 2:
                found[(words[0], words[1].lstrip("v"))] = licence.strip()
    return found


def crate_folders():
    metadata = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1", cwd=TOP))
    return {(p["name"], p["version"]): (Path(p["manifest_path"]).parent, p) for p in metadata["packages"]}


def expression(text):
    """What crates.io allows to be written as a licence, in SPDX's words."""
    return re.sub(r"\s*/\s*", " OR ", text) if text else "NOASSERTION"


def main():
    work, out, name, version, *programs = sys.argv[1:]
    work, prefix = Path(work), Path(out) / name
    target = {"arm64": "aarch64-unknown-linux-gnu"}.get(os.environ.get("ARCH"), "x86_64-unknown-linux-gnu")
    debs = sorted(Path(path) for path in (work / "debs").read_text().split())
    places = [work / "tree", work / "initrd", work / "boot-files"]
    with ThreadPoolExecutor(4) as pool:
        packages = list(pool.map(lambda deb: debian(deb, places), debs))
    texts = {package["source"]: package["copyright"] for package in packages if package["copyright"]}
    packages = [package for package in packages if package["files"]]

    licences = Path(f"{prefix}.licences")
    shutil.rmtree(licences, ignore_errors=True)
    (licences / "debian").mkdir(parents=True)
    (licences / "crates").mkdir()
    missing = []
    for package in packages:
        package["copyright"] = package["copyright"] or texts.get(package["source"], b"")
        package["licences"], package["whole"] = licences_of(package["copyright"])
        if package["copyright"]:
            (licences / "debian" / package["name"]).write_bytes(package["copyright"])
        else:
            missing.append(f"debian/{package['name']}")
    # The copyright files refer to these.
    base = next(deb for deb in debs if deb.name.startswith("base-files_"))
    archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(base)], stdout=subprocess.PIPE)
    run(
        "tar",
        "x",
        "-C",
        str(licences),
        "--strip-components=3",
        "./usr/share/common-licenses",
        stdin=archive.stdout,
    )
    archive.wait()
    shutil.copy(TOP / "LICENSE", licences / "stile")
    onnx = TOP / ".cache/onnxruntime"
    for file in ("LICENSE", "ThirdPartyNotices.txt"):
        shutil.copy(onnx / file, licences / f"onnxruntime-{file}")

    folders = crate_folders()
    linked = crates(programs, target)
    own, foreign = [], []
    for (crate, number), licence in sorted(linked.items()):
        folder, record = folders[(crate, number)]
        if record["source"] is None:
            own.append((crate, number, licence))
            continue
        foreign.append((crate, number, licence, record))
        files = [
            file for file in sorted(folder.rglob("*")) if file.is_file() and LICENCE_FILE.match(file.name)
        ]
        for file in files:
            place = licences / "crates" / f"{crate}-{number}" / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        if not files:
            # Apache's text is among the common ones; MIT's asks for a name, which is the record's.
            missing.append(
                f"crates/{crate}-{number}\t{licence}\t{', '.join(record['authors'])}\t{record['repository'] or ''}"
            )
    (licences / "without-a-text.tsv").write_text("".join(f"{line}\n" for line in missing))

    checksums = {
        (p["name"], p["version"]): p.get("checksum")
        for p in tomllib.loads((TOP / "Cargo.lock").read_text())["package"]
    }
    rows = ["kind\tname\tversion\tarchitecture\tsource\tsource version\tlicence\tfiles\tbytes"]
    for p in packages:
        licence = " AND ".join(p["licences"]) + ("" if p["whole"] else " +others")
        rows.append(
            f"deb\t{p['name']}\t{p['version']}\t{p['arch']}\t{p['source']}\t{p['source_version']}\t"
            f"{licence.strip()}\t{p['files']}\t{p['bytes']}"
        )
    for crate, number, licence in own:
        rows.append(f"own\t{crate}\t{number}\t\tstile\t{version}\t{licence}\t\t")
    for crate, number, licence, _ in foreign:
        rows.append(f"crate\t{crate}\t{number}\t\t{crate}\t{number}\t{licence}\t\t")
    rust = run("rustc", "--version", text=True, cwd=TOP).split()[1]
    rows.append(f"toolchain\trust-std\t{rust}\t\trust\t{rust}\tMIT OR Apache-2.0\t\t")
    runtime = re.search(r"ORT_VERSION := (\S+)", (TOP / "Makefile").read_text())[1]
    rows.append(f"wheel\tonnxruntime\t{runtime}\t\tonnxruntime\t{runtime}\tMIT\t1\t")
    models = sorted((work / "tree/usr/share/stile/models").glob("*.onnx"))
    rows += [
        f"model\t{model.name}\t{version}\t\tstile\t{version}\tGPL-3.0-only\t1\t{model.stat().st_size}"
        for model in models
    ]
    Path(f"{prefix}.packages.tsv").write_text("\n".join(rows) + "\n")

    def entry(kind, title, number, licence, purl=None, sha256=None, source=None, comment=None):
        made = {
            "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", f"{kind}-{title}-{number}"),
            "name": title,
            "versionInfo": number,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": licence,
            "copyrightText": "NOASSERTION",
        }
        if purl:
            made["externalRefs"] = [
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
            ]
        if sha256:
            made["checksums"] = [{"algorithm": "SHA256", "checksumValue": sha256}]
        if source:
            made["sourceInfo"] = source
        if comment:
            made["licenseComments"] = comment
        return made

    entries = []
    for p in packages:
        entries.append(
            entry(
                "deb",
                p["name"],
                p["version"],
                " AND ".join(p["licences"]) if p["whole"] and p["licences"] else "NOASSERTION",
                f"pkg:deb/debian/{p['name']}@{p['version'].replace('+', '%2B')}?arch={p['arch']}",
                p["sha256"],
                f"Debian source package {p['source']} {p['source_version']}",
                f"names in its copyright file: {', '.join(p['licences']) or 'none machine-readable'}; text in {name}.licences/debian/{p['name']}",
            )
        )
    entries += [entry("own", crate, number, licence) for crate, number, licence in own]
    for crate, number, licence, _ in foreign:
        entries.append(
            entry(
                "crate",
                crate,
                number,
                expression(licence),
                f"pkg:cargo/{crate}@{number.replace('+', '%2B')}",
                checksums.get((crate, number)),
            )
        )
    entries.append(
        entry(
            "toolchain",
            "rust-std",
            rust,
            "MIT OR Apache-2.0",
            comment="Rust's standard library, linked into each program",
        )
    )
    library = (work / "tree/usr/lib/stile/libonnxruntime.so").read_bytes()
    entries.append(
        entry(
            "wheel",
            "onnxruntime",
            runtime,
            "MIT",
            f"pkg:pypi/onnxruntime@{runtime}",
            hashlib.sha256(library).hexdigest(),
        )
    )
    for model in models:
        entries.append(
            entry(
                "model",
                model.name,
                version,
                "GPL-3.0-only",
                sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
            )
        )
    whole = entry(
        "image",
        name,
        version,
        "NOASSERTION",
        sha256=hashlib.sha256((work / "root.squashfs").read_bytes()).hexdigest(),
    )
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"])))
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{name}-{version}",
        "documentNamespace": f"https://stile.invalid/spdx/{name}-{version}-{whole['checksums'][0]['checksumValue'][:16]}",
        "creationInfo": {"created": created, "creators": ["Tool: stile bom.py"]},
        "documentDescribes": [whole["SPDXID"]],
        "packages": [whole, *entries],
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": whole["SPDXID"],
            }
        ]
        + [
            {
                "spdxElementId": whole["SPDXID"],
                "relationshipType": "CONTAINS",
                "relatedSpdxElement": e["SPDXID"],
            }
            for e in entries
        ],
    }
    Path(f"{prefix}.spdx.json").write_text(json.dumps(document, indent=1) + "\n")
    print(
        f"{len(packages)} Debian packages, {len(own)} own crates, {len(foreign)} crates, {len(models)} models; "
        f"{len(missing)} without a licence text"
    )


if __name__ == "__main__":
    main()
