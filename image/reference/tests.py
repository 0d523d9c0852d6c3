#!/usr/bin/env python3
"""Tests of the scripts here; the build runs them first. Standard library only."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import bom
import cve
import tree


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def put(self, path, text=""):
        full = self.folder / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(text)
        return full

    def link(self, path, target):
        full = self.folder / path
        full.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(target, full)


class Links(Folder):
    def test_links_are_followed_within_the_tree(self):
        self.put("usr/lib/x/libc.so")
        self.link("lib", "usr/lib")
        self.link("usr/lib64/ld.so", "../lib/x/libc.so")
        self.link("absolute", "/usr/lib/x")
        self.link("round", "round")
        self.assertEqual(tree.resolve(self.folder, "lib/x/libc.so"), "usr/lib/x/libc.so")
        self.assertEqual(tree.resolve(self.folder, "usr/lib64/ld.so"), "usr/lib/x/libc.so")
        self.assertEqual(tree.resolve(self.folder, "absolute/libc.so"), "usr/lib/x/libc.so")
        self.assertEqual(tree.resolve(self.folder, "../../usr"), "usr")
        self.assertIsNone(tree.resolve(self.folder, "usr/nothing"))
        self.assertIsNone(tree.resolve(self.folder, "round"))

    def test_links_replace_what_is_there_and_need_no_target(self):
        self.put("tree/etc/mtab", "a file")
        self.put("list", "# why\netc/mtab ../proc/self/mounts\nusr/lib/a b\n")
        for _ in range(2):
            tree.links(str(self.folder / "tree"), str(self.folder / "list"))
        self.assertEqual(os.readlink(self.folder / "tree/etc/mtab"), "../proc/self/mounts")
        self.assertEqual(os.readlink(self.folder / "tree/usr/lib/a"), "b")


class Rules(Folder):
    def test_the_first_match_decides(self):
        rules = tree.read_rules(self.put("rules", "# why\n+ usr/bin/good\n- usr/bin/*  # all others\n"))
        self.assertTrue(tree.decide(rules, "usr/bin/good"))
        self.assertIs(tree.decide(rules, "usr/bin/sh"), False)
        self.assertIsNone(tree.decide(rules, "etc/x"))

    def test_a_line_that_is_no_rule_is_named(self):
        with self.assertRaisesRegex(SystemExit, "'usr/bin/sh' is no rule"):
            tree.read_rules(self.put("rules", "usr/bin/sh\n"))

    def test_the_rules_of_the_image_are_rules(self):
        for path in Path(tree.__file__).parent.glob("*.rules"):
            self.assertTrue(tree.read_rules(path))


class Programs(Folder):
    def test_a_program_keeps_its_libraries_and_nothing_else(self):
        base = self.folder / "base"
        for path in ("/bin/true", "/usr/bin/xz"):
            real = Path(os.path.realpath(path))
            (base / "usr/bin").mkdir(parents=True, exist_ok=True)
            shutil.copy(real, base / "usr/bin" / Path(path).name)
            for line in subprocess.run(["ldd", real], stdout=subprocess.PIPE, text=True).stdout.splitlines():
                words = [word for word in line.split() if word.startswith("/")]
                if words:
                    lib = Path(words[0])
                    target = base / "usr" / lib.relative_to("/usr" if str(lib).startswith("/usr") else "/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(os.path.realpath(lib), target)
        for name in ("lib", "lib64", "bin"):
            os.symlink(f"usr/{name}", base / name)
        found = next(base.glob("usr/lib/*-linux-gnu/libc.so.6"))
        (found.parent / "libunused.so.1").write_bytes(found.read_bytes())
        rules = self.put("rules", "+ usr/bin/true\n- usr/bin/*\n")
        tree.prune(str(base), str(rules))
        left = {os.path.basename(path) for path in tree.walk(base)}
        self.assertIn("libc.so.6", left)
        self.assertFalse({"xz", "liblzma.so.5", "libunused.so.1"} & left)
        out = self.folder / "out"
        tree.pick(str(base), str(rules), str(out))
        self.assertIn("libc.so.6", {path.name for path in out.rglob("*")})
        tree.check(str(base))
        found.unlink()
        with self.assertRaisesRegex(SystemExit, "bin/true needs libc.so.6, which is not in the tree"):
            tree.check(str(base))
        with self.assertRaisesRegex(SystemExit, "needs libc.so.6, which is not in the tree"):
            tree.prune(str(base), str(rules))

    def test_a_tree_as_bitbake_makes_it(self):
        """Libraries in usr/lib itself, programs behind links with the name of their package."""
        base = self.folder / "base"
        real = Path(os.path.realpath("/bin/true"))
        (base / "usr/bin").mkdir(parents=True)
        (base / "usr/lib").mkdir()
        shutil.copy(real, base / "usr/bin/mount.util-linux")
        shutil.copy(real, base / "usr/bin/lsmod.kmod")
        os.symlink("/usr/bin/mount.util-linux", base / "usr/bin/mount")
        os.symlink("lsmod.kmod", base / "usr/bin/lsmod")
        (base / "usr/sbin").mkdir()
        os.symlink("usr/sbin", base / "sbin")
        shutil.copy(real, base / "usr/bin/kmod")
        os.symlink("../bin/kmod", base / "usr/sbin/modprobe.kmod")
        os.symlink("/sbin/modprobe.kmod", base / "usr/sbin/modprobe")
        os.symlink("round", base / "usr/sbin/round")
        os.symlink("usr/lib", base / "lib64")
        text = subprocess.run(["ldd", real], stdout=subprocess.PIPE, text=True).stdout
        for word in (word for word in text.split() if word.startswith("/")):
            shutil.copy(os.path.realpath(word), base / "usr/lib")
        (base / "usr/lib/libunused.so.1").write_bytes(real.read_bytes())
        (base / "usr/lib/libnamed.so.1").write_bytes(real.read_bytes())
        kept = "+ usr/bin/mount\n+ usr/sbin/modprobe\n+ usr/sbin/round\n+ usr/lib/*libnamed.so.1\n"
        rules = self.put("rules", kept + "- usr/bin/*\n- usr/sbin/*\n")
        tree.prune(str(base), str(rules))
        left = {path.removeprefix("usr/") for path in tree.walk(base)}
        self.assertTrue({"bin/mount", "bin/mount.util-linux", "lib/libnamed.so.1"} <= left, left)
        self.assertTrue({"sbin/modprobe", "sbin/modprobe.kmod", "bin/kmod"} <= left, left)
        self.assertFalse({"bin/lsmod", "bin/lsmod.kmod", "lib/libunused.so.1"} & left, left)


class Order(unittest.TestCase):
    def test_programs_lie_behind_what_changes_less(self):
        here = Path(__file__).parent
        programs = re.search(r"PROGRAMS=\(\$\{STILE_PROGRAMS-(.*?)\}\)", (here / "build.sh").read_text())[1].split()
        ordered = {line.split()[0] for line in tree.lines(here / "root.sort")}
        self.assertEqual({f"usr/bin/{name}" for name in programs} - ordered, set())


class Users(Folder):
    def users(self, text):
        self.put("usr/lib/sysusers.d/stile.conf", text)
        (self.folder / "etc").mkdir(exist_ok=True)
        tree.users(str(self.folder))

    def test_users_groups_and_members(self):
        self.users('u root 0 "root" /root\nu! gated 901 "the gate"\ng gpio 910 -\nm gated gpio\n')
        self.assertIn(
            "gated:x:901:901:the gate:/:/usr/sbin/nologin\n", (self.folder / "etc/passwd").read_text()
        )
        self.assertIn("gpio:x:910:gated\n", (self.folder / "etc/group").read_text())
        self.assertNotRegex((self.folder / "etc/shadow").read_text(), r"(?m)^[^:]*:[^!]")
        self.assertEqual((self.folder / "etc/shadow").stat().st_mode & 0o777, 0o600)

    def test_an_id_must_be_given_and_be_its_own(self):
        with self.assertRaisesRegex(SystemExit, "gpio has no fixed id"):
            self.users("g gpio -\n")
        with self.assertRaisesRegex(SystemExit, "users share an id"):
            self.users("u a 901\nu b 901\n")


class Versions(unittest.TestCase):
    def test_debian_versions_sort_as_dpkg_sorts(self):
        ordered = [
            "0",
            "1.0~~",
            "1.0~~a",
            "1.0~rc1",
            "1.0",
            "1.0-1~deb12u1",
            "1.0-1",
            "1.0-1+deb13u1",
            "1.0-1.1",
            "1.0-9",
            "1.0-10",
            "1.0a",
            "1.0+b",
            "1.0.1",
            "9.9",
            "10.1",
            "1:0.9",
            "2:0.1",
        ]
        self.assertEqual(sorted(reversed(ordered), key=cve.debian_key), ordered)

    def test_requirements_of_crates(self):
        for version, wanted, met in [
            ("1.2.3", ">= 1.2.3", True),
            ("1.2.3", "^1.2", True),
            ("2.0.0", "^1.2", False),
            ("0.3.0", "^0.2.3", False),
            ("1.2.3-rc.1", ">= 1.2.3", False),
            ("0.1.5", ">=0.1.2, <0.2.0", True),
            ("1.3.0", "~1.2", False),
        ]:
            self.assertEqual(cve.meets(version, wanted), met, (version, wanted))
        with self.assertRaisesRegex(ValueError, "no requirement"):
            cve.meets("1.0.0", "sometimes")


class Vulnerabilities(Folder):
    def report(self, *arguments):
        rows = [
            "kind\tname\tversion\tarchitecture\tsource\tsource version\tlicence\tfiles\tbytes",
            "deb\tlibssl3t64\t3.5.7-1\tamd64\topenssl\t3.5.7-1\t\t2\t9",
            "deb\tlinux-image-6.12\t6.12.117-1~deb12u1\tamd64\tlinux-signed-6.12-amd64\t6.12.117+1~deb12u1\t\t1\t9",
            "crate\ttime\t0.1.43\t\ttime\t0.1.43\t\t\t",
        ]
        packages = self.put("packages.tsv", "\n".join(rows) + "\n")
        out = io.StringIO()
        with (
            mock.patch.object(sys, "argv", ["cve.py", str(packages), *map(str, arguments)]),
            contextlib.redirect_stdout(out),
        ):
            status = cve.main()
        return status, out.getvalue()

    def test_what_debian_has_not_fixed_is_open(self):
        def entry(**state):
            return {"description": "a hole", "releases": {"trixie": state}}

        tracker = self.put(
            "tracker.json",
            json.dumps(
                {
                    "openssl": {
                        "CVE-1": entry(status="resolved", fixed_version="3.5.7-1", urgency="medium"),
                        "CVE-2": entry(status="resolved", fixed_version="3.5.8-1", urgency="high"),
                        "CVE-3": entry(status="open", urgency="low", nodsa="minor issue"),
                        "CVE-4": entry(status="resolved", fixed_version="0", urgency="unimportant"),
                        "CVE-5": {"releases": {"sid": {"status": "open"}}},
                    },
                    "linux": {
                        "CVE-6": entry(status="open", urgency="not yet assigned"),
                        "CVE-8": entry(status="resolved", fixed_version="6.12.117-1", urgency="high"),
                    },
                    "absent": {"CVE-7": entry(status="open")},
                }
            ),
        )
        status, text = self.report("--debian", tracker, "--json")
        self.assertEqual(status, 1)
        self.assertEqual(
            [(f["id"], f["fixed"]) for f in json.loads(text)],
            [("CVE-6", ""), ("CVE-2", "3.5.8-1"), ("CVE-3", "")],
        )
        self.assertIn("not looked at: crates", self.report("--debian", tracker)[1])

    def test_a_file_of_something_else_is_no_clean_report(self):
        with self.assertRaisesRegex(ValueError, "is this the tracker's file"):
            self.report("--debian", self.put("wrong.json", "{}"))
        with self.assertRaises(ValueError):
            self.report("--debian", self.put("broken.json", "{"))
        with self.assertRaisesRegex(ValueError, "no folder crates"):
            self.report("--rustsec", self.folder)

    def test_advisories_of_crates(self):
        text = '```toml\n[advisory]\nid = "RUSTSEC-1"\n[versions]\npatched = [">= 0.2.23"]\nunaffected = ["= 0.1.1"]\n```\n\n# A hole\n'
        self.put("db/crates/time/RUSTSEC-1.md", text)
        self.put("db/crates/other/RUSTSEC-2.md", text)
        status, text = self.report("--rustsec", self.folder / "db")
        self.assertEqual(status, 1)
        self.assertTrue(
            text.startswith("RUSTSEC-1  time 0.1.43  vulnerability  fixed in >= 0.2.23  A hole\n1 open"), text
        )


class Licences(unittest.TestCase):
    def test_names_of_a_copyright_file(self):
        text = b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: LGPL-2.1+\n\nFiles: b\nLicense: Expat or GPL-2+\n"
        self.assertEqual(bom.licences_of(text), (["GPL-2.0-or-later", "LGPL-2.1-or-later", "MIT"], True))
        self.assertEqual(bom.licences_of(text + b"\nFiles: c\nLicense: of-my-own\n")[1], False)
        self.assertEqual(bom.licences_of(b"free text"), ([], False))
        self.assertEqual(bom.expression("MIT/Apache-2.0"), "MIT OR Apache-2.0")


if __name__ == "__main__":
    unittest.main()
