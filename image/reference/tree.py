#!/usr/bin/env python3
"""Makes a root tree of unpacked packages small and whole. Standard library only; reads ELF files with readelf.

tree.py prune TREE RULES            delete what RULES say, then every shared library that nothing left in TREE needs
tree.py pick TREE RULES OUT         copy what RULES keep, and the shared libraries it needs, to OUT (for the initrd)
tree.py modules KERNEL LIST OUT     copy the modules of LIST and what they need from lib/modules/RELEASE of KERNEL
tree.py check TREE                  fail when a program or library in TREE needs one that is not there
tree.py links TREE LIST             make the links of LIST, a line for each: path and target
tree.py users TREE                  write /etc/passwd and its like from TREE/usr/lib/sysusers.d

A rules file has a line for each pattern, `+ PATTERN` to keep or `- PATTERN` to drop; the first that matches a path
decides. `*` matches any text, also across folders. `#` starts a comment.
"""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path


def lines(path):
    for line in Path(path).read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            yield line


def read_rules(path):
    rules = []
    for line in lines(path):
        sign, _, pattern = line.partition(" ")
        if sign not in "+-" or not pattern:
            sys.exit(f"{path}: {line!r} is no rule")
        rules.append([sign == "+", re.compile(fnmatch.translate(pattern.strip())), line, 0])
    return rules


def decide(rules, path):
    """True, False, or None where no rule matches. Counts what each rule matched."""
    for rule in rules:
        if rule[1].match(path):
            rule[3] += 1
            return rule[0]
    return None


def warn_idle(rules, path, elsewhere=()):
    """A rule that keeps nothing is likely a mistake, unless what it means is in `elsewhere`."""
    for keep, pattern, line, count in rules:
        if keep and not count and not any(pattern.match(path) for path in elsewhere):
            print(f"{path}: nothing matches {line!r}", file=sys.stderr)


def walk(tree):
    """Paths of all files and links below `tree`, relative to it, in order."""
    for folder, folders, files in os.walk(tree):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = sorted(set(folders) - set(links))
        for name in sorted(files + links):
            yield os.path.relpath(os.path.join(folder, name), tree)


def resolve(tree, path):
    """The path within `tree` that `path` names, its links followed as if `tree` were the root; None if there is none."""
    done, rest = [], [part for part in path.split("/") if part]
    for _ in range(200):
        if not rest:
            return "/".join(done)
        part = rest.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            done = done[:-1]
            continue
        full = os.path.join(tree, *done, part)
        if os.path.islink(full):
            target = os.readlink(full)
            if target.startswith("/"):
                done = []
            rest = target.split("/") + rest
        elif os.path.lexists(full):
            done.append(part)
        else:
            return None
    return None


def steps(tree, path):
    """The paths that a link leads to, one after the other; none if it is no link or leads nowhere."""
    done = []
    while path and os.path.islink(os.path.join(tree, path)) and path not in done[:-1]:
        target = os.path.normpath(os.path.join("/", os.path.dirname(path), os.readlink(os.path.join(tree, path))))
        folder = resolve(tree, os.path.dirname(target))
        if folder is None:
            break
        path = os.path.join(folder, os.path.basename(target))
        done.append(path)
    return done


class Libraries:
    """Which shared library needs which, and where it lies."""

    def __init__(self, tree):
        self.tree = tree
        self.needed, self.runpath = {}, {}
        elves = [path for path in walk(tree) if self.is_elf(path)]
        for start in range(0, len(elves), 200):
            self.read(elves[start : start + 200])
        triplets = [path.name for path in Path(tree, "usr/lib").glob("*-linux-gnu*")]
        self.folders = [f"usr/lib/{name}" for name in triplets] + ["usr/lib64", "usr/lib"]

    def is_elf(self, path):
        full = os.path.join(self.tree, path)
        if os.path.islink(full) or path.startswith(("usr/lib/modules/", "lib/modules/")):
            return False
        with open(full, "rb") as file:
            return file.read(4) == b"\x7fELF"

    def read(self, paths):
        full = [os.path.join(self.tree, path) for path in paths]
        text = subprocess.run(
            ["readelf", "-dlW", *full], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        path = paths[0]
        for line in text.splitlines():
            if line.startswith("File: "):
                path = os.path.relpath(line[6:], self.tree)
            found = re.search(r"\((NEEDED|RUNPATH|RPATH)\).*\[(.*)\]", line)
            if found and found[1] == "NEEDED":
                self.needed.setdefault(path, []).append(found[2])
            elif found:
                self.runpath[path] = found[2].replace("$ORIGIN", "/" + os.path.dirname(path)).split(":")
            found = re.search(r"Requesting program interpreter: (.*)\]", line)
            if found:
                self.needed.setdefault(path, []).append(found[1])

    def find(self, name, user):
        if name.startswith("/"):
            return [name[1:]] if resolve(self.tree, name) else None
        # Beside its user too: a program has loaded it from there before (systemd's own libraries count on that).
        for folder in self.runpath.get(user, []) + self.folders + [os.path.dirname(user)]:
            path = os.path.join(folder.lstrip("/"), name)
            if resolve(self.tree, path):
                return [path]
        return None

    def closure(self, paths):
        """`paths`, every library they need, and the links on the way to it."""
        done, todo = set(), list(paths)
        while todo:
            path = todo.pop()
            if path in done:
                continue
            done.add(path)
            full = os.path.join(self.tree, path)
            folder = resolve(self.tree, os.path.dirname(path))
            if folder != os.path.dirname(path):
                todo += [] if folder is None else [os.path.join(folder, os.path.basename(path))]
                continue
            if os.path.islink(full):
                target = os.path.normpath(os.path.join("/", folder, os.readlink(full)))
                todo.append(target.lstrip("/"))
                continue
            for name in self.needed.get(path, []):
                found = self.find(name, path)
                if not found:
                    sys.exit(f"{path} needs {name}, which is not in the tree")
                todo += found
        return done


def is_library(path):
    return re.fullmatch(r"usr/lib/([^/]+-linux-gnu[^/]*/)?[^/]+\.so(\.[^/]*)?", path)


def prune(tree, rules_path):
    rules = read_rules(rules_path)
    decided = {path: decide(rules, path) for path in walk(tree)}
    # A link that a rule keeps keeps what it leads to: bitbake's `mount` is a link to `mount.util-linux`.
    led_to = {step for path, keep in decided.items() if keep for step in steps(tree, path)}
    for path, keep in decided.items():
        if keep is False and path not in led_to:
            os.unlink(os.path.join(tree, path))
    warn_idle(rules, rules_path)
    libraries = Libraries(tree)
    paths = list(walk(tree))
    used = [path for path in paths if not is_library(path) or decide(rules, path)]
    wanted = libraries.closure(used)
    for path in paths:
        if is_library(path) and path not in wanted:
            os.unlink(os.path.join(tree, path))
    # Links to what is gone, and folders that are empty now and were not made to be mounted upon.
    for path in list(walk(tree)):
        full = os.path.join(tree, path)
        if os.path.islink(full) and path.startswith("usr/") and not resolve(tree, path):
            if not os.readlink(full).startswith(("/run", "/var", "/etc", "/dev", "/proc", "../../../../run")):
                os.unlink(full)
    for folder, _, _ in os.walk(tree, topdown=False):
        path = os.path.relpath(folder, tree)
        if path.startswith(("usr/", "etc/")) and not os.listdir(folder) and not os.path.islink(folder):
            os.rmdir(folder)


def copy(tree, path, out):
    target = Path(out, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(os.path.join(tree, path), target, follow_symlinks=False)


def pick(tree, rules_path, out):
    rules = read_rules(rules_path)
    kept = [path for path in walk(tree) if decide(rules, path)]
    warn_idle(rules, rules_path)
    for path in sorted(Libraries(tree).closure(kept)):
        full = os.path.join(tree, path)
        if os.path.isdir(full) and not os.path.islink(full):
            Path(out, path).mkdir(parents=True, exist_ok=True)
        elif os.path.lexists(full) and resolve(tree, os.path.dirname(path)) == os.path.dirname(path):
            copy(tree, path, out)


def modules(kernel, list_path, out):
    folder = next(Path(kernel, "lib/modules").iterdir())
    base = f"lib/modules/{folder.name}"
    needs = {}
    for line in Path(folder, "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    name_of = {path: re.sub(r"\.ko.*", "", os.path.basename(path)).replace("-", "_") for path in needs}
    by_name = {name: path for path, name in name_of.items()}
    # modules.softdep is made by depmod from the modules themselves.
    soft = {}
    for line in Path(folder, "modules.softdep").read_text().splitlines():
        words = line.split()
        if words[:1] == ["softdep"]:
            soft[words[1].replace("-", "_")] = [
                word.replace("-", "_") for word in words[2:] if ":" not in word
            ]
    rules = read_rules(list_path)
    todo = [path for path in needs if decide(rules, path)]
    warn_idle(rules, list_path, Path(folder, "modules.builtin").read_text().splitlines())
    done = set()
    while todo:
        path = todo.pop()
        if path in done:
            continue
        done.add(path)
        todo += needs[path]
        todo += [by_name[name] for name in soft.get(name_of[path], []) if name in by_name]
    for path in sorted(done):
        target = Path(out, "usr", base, re.sub(r"\.xz$", "", path))
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".xz"):
            with open(target, "wb") as file:
                subprocess.run(["xz", "-dc", folder / path], stdout=file, check=True)
        else:
            shutil.copyfile(folder / path, target)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        if Path(folder, name).exists():
            shutil.copyfile(folder / name, Path(out, "usr", base, name))


def check(tree):
    Libraries(tree).closure([path for path in walk(tree) if path.startswith("usr/")])


def links(tree, list_path):
    for line in lines(list_path):
        path, target = line.split()
        full = Path(tree, path)
        full.parent.mkdir(parents=True, exist_ok=True)
        full.unlink(missing_ok=True)
        full.symlink_to(target)


def users(tree):
    """Ids must be given: the state partition outlives the image, so no number may depend on what else is installed."""
    people, groups, members = {}, {}, []
    files = sorted(Path(tree, "usr/lib/sysusers.d").glob("*.conf"))
    for line in (line for file in files for line in lines(file)):
        kind, name, ident, gecos, home, shell = (re.findall(r'"[^"]*"|\S+', line) + ["-"] * 5)[:6]
        kind = kind.rstrip("!")
        if kind == "m":
            members.append((name, ident))
        elif kind == "g" and name not in groups:
            groups[name] = ident
        elif kind == "u" and name not in people:
            uid, _, group = ident.partition(":")
            people[name] = [uid, group or uid, gecos.strip('"-'), "/" if home == "-" else home]
            if not group:
                groups.setdefault(name, uid)
    for name, ident in [(name, person[0]) for name, person in people.items()] + list(groups.items()):
        if not ident.isdigit():
            sys.exit(f"sysusers: {name} has no fixed id")
    for what, ids in (
        ("users", [person[0] for person in people.values()]),
        ("groups", list(groups.values())),
    ):
        twice = {ident for ident in ids if ids.count(ident) > 1}
        if twice:
            sys.exit(f"sysusers: {what} share an id: {sorted(twice)}")
    joined = {name: sorted({user for user, group in members if group == name}) for name in groups}
    order = sorted(people, key=lambda name: int(people[name][0]))
    etc = Path(tree, "etc")
    nologin = "/usr/sbin/nologin"
    texts = {
        "passwd": "".join(
            f"{n}:x:{people[n][0]}:{people[n][1]}:{people[n][2]}:{people[n][3]}:{nologin}\n" for n in order
        ),
        # No password, and none can be set: the file system is read-only.
        "shadow": "".join(f"{n}:!*:1::::::\n" for n in order),
        "group": "".join(
            f"{n}:x:{groups[n]}:{','.join(joined[n])}\n" for n in sorted(groups, key=lambda n: int(groups[n]))
        ),
        "gshadow": "".join(
            f"{n}:!*::{','.join(joined[n])}\n" for n in sorted(groups, key=lambda n: int(groups[n]))
        ),
    }
    for name, text in texts.items():
        Path(etc, name).write_text(text)
        os.chmod(etc / name, 0o600 if "shadow" in name else 0o644)


def main():
    commands = {
        "prune": (prune, 2),
        "pick": (pick, 3),
        "modules": (modules, 3),
        "check": (check, 1),
        "links": (links, 2),
        "users": (users, 1),
    }
    command, *arguments = sys.argv[1:] or ["help"]
    if command not in commands or len(arguments) != commands[command][1]:
        sys.exit(__doc__)
    commands[command][0](*arguments)


if __name__ == "__main__":
    main()
