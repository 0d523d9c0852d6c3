"""Fits who changed a plate: the small network of appliance/engine/src/cart/who.rs.

    box day --seed 21 --shoppers 30 --trace t21        (several seeds)
    explain --features who.jsonl t21 ...               (store-sim's binary)
    python models/training/who.py who.jsonl --write appliance/engine/src/cart/weights.rs

Each line of the file is one step of one plate with everybody near it, described by the engine itself. The network gives
each of them a log odds, and the softmax over all of them and a constant "nobody whom a track follows" is the chance of
having done it. Days are held out in turn for the score that is printed; the file is written from all of them.
"""

import argparse
import json
import pathlib

import numpy as np
import torch

HIDDEN = 8
STEPS = 500
NOISE = 0.3
DECAY = 0.3
ROOT = pathlib.Path(__file__).resolve().parents[2]


def read(path):
    """Steps that exactly one person caused: features of everybody near, and which of them did it (-1: none of them)."""
    steps = []
    for line in path.read_text().splitlines():
        if not line:
            continue
        step = json.loads(line)
        if len({person for person, _, _ in step["truth"]}) != 1:
            continue
        tracks = {track for _, track, _ in step["truth"] if track is not None}
        people = sorted(step["people"].items(), key=lambda item: int(item[0]))
        right = [index for index, (track, _) in enumerate(people) if int(track) in tracks]
        if people:
            features = np.array([features for _, features in people], np.float32)
            steps.append((features, right[0] if right else -1))
    return steps


class Who(torch.nn.Module):
    def __init__(self, steps):
        super().__init__()
        every = np.concatenate([features for features, _ in steps])
        self.mean = torch.tensor(every.mean(0))
        self.spread = torch.tensor(every.std(0)).clamp(min=1e-3)
        self.first = torch.nn.Linear(every.shape[1], HIDDEN)
        self.last = torch.nn.Linear(HIDDEN, 1)
        self.nobody = torch.nn.Parameter(torch.tensor(-2.0))

    def scaled(self, features):
        return (features - self.mean) / self.spread

    def forward(self, scaled):
        return self.last(torch.tanh(self.first(scaled)))[:, 0]


def fit(steps, seed=0):
    torch.manual_seed(seed)
    net = Who(steps)
    people = net.scaled(torch.tensor(np.concatenate([features for features, _ in steps])))
    step_of = torch.cat([torch.full((len(features),), index) for index, (features, _) in enumerate(steps)])
    first = np.cumsum([0] + [len(features) for features, _ in steps])[:-1]
    right = torch.tensor([start + max(index, 0) for start, (_, index) in zip(first, steps)])
    none = torch.tensor([index < 0 for _, index in steps])
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=DECAY)
    for _ in range(STEPS):
        odds = net(people + NOISE * torch.randn(people.shape))
        most = torch.maximum(odds.max(), net.nobody).detach()
        sums = torch.exp(net.nobody - most).expand(len(steps)).index_add(0, step_of, torch.exp(odds - most))
        true = torch.where(none, net.nobody, odds[right])
        loss = (torch.log(sums) + most - true).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def chances(net, features):
    with torch.no_grad():
        odds = torch.cat([net(net.scaled(torch.tensor(features))), net.nobody[None]])
        return torch.softmax(odds, 0).numpy()


def score(pairs):
    """Of steps with more than one person near: mean log-likelihood, share right, share sure (0.9) and of those wrong."""
    likelihood, right, sure, wrong = [], [], [], []
    for found, index in pairs:
        if len(found) < 3:
            continue
        likelihood.append(np.log(found[index] if index >= 0 else found[-1]))
        right.append(np.argmax(found) == (index if index >= 0 else len(found) - 1))
        if found.max() > 0.9:
            sure.append(1)
            wrong.append(not right[-1])
    count = len(likelihood)
    return (
        f"{count} steps with rivals: log-likelihood {np.mean(likelihood):.3f}, right {np.mean(right):.3f}, "
        f"sure {len(sure) / count:.3f}, sure and wrong {sum(wrong) / count:.4f}"
    )


def rust(net):
    first = (net.first.weight / net.spread).detach().numpy()
    bias = (net.first.bias - (net.first.weight / net.spread) @ net.mean).detach().numpy()
    rows = lambda values, indent: [
        indent + ", ".join(f"{value:.5f}" for value in values[start : start + 8]) + ","
        for start in range(0, len(values), 8)
    ]
    lines = [
        "//! Written by `models/training/who.py`; see `who.rs`.",
        "",
        "/// Rows of the first layer.",
        "#[rustfmt::skip]",
        f"pub(super) const FIRST: [[f64; {first.shape[1]}]; {HIDDEN}] = [",
    ]
    for values in first:
        lines += ["    [", *rows(values, " " * 8), "    ],"]
    lines += [
        "];",
        "/// Biases of the first layer.",
        "#[rustfmt::skip]",
        f"pub(super) const FIRST_BIAS: [f64; {HIDDEN}] = [",
        *rows(bias, "    "),
        "];",
        "/// The last layer.",
        "#[rustfmt::skip]",
        f"pub(super) const LAST: [f64; {HIDDEN}] = [",
        *rows(net.last.weight.detach().numpy()[0], "    "),
        "];",
        "/// Its bias.",
        f"pub(super) const LAST_BIAS: f64 = {net.last.bias.item():.5f};",
        "/// Log odds of somebody whom no track follows.",
        f"pub(super) const NOBODY: f64 = {net.nobody.item():.5f};",
    ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--write", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    steps = read(arguments.file)
    print(f"{len(steps)} steps, {sum(index < 0 for _, index in steps)} by somebody whom no track followed")
    fold = np.arange(len(steps)) * arguments.folds // len(steps)
    held_out = []
    for part in range(arguments.folds):
        net = fit([step for step, at in zip(steps, fold) if at != part])
        held_out += [(chances(net, features), index) for (features, index), at in zip(steps, fold) if at == part]
    print("held out:", score(held_out))
    net = fit(steps)
    print("fitted:", score([(chances(net, features), index) for features, index in steps]))
    if arguments.write:
        arguments.write.write_text(rust(net))


if __name__ == "__main__":
    main()
