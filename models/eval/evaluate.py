"""Scores the people detector on frames of stores, cameras and people that its training never saw.

    python models/eval/evaluate.py --data FOLDER [--model people.onnx]

    --choose      finds the two thresholds with the best F1 first; use other frames than those of the score
    --manifest    writes models/onnx/manifest.toml with what was measured
    --golden DIR  writes the frame and the answers that models/recognition's test compares

A head counts as found within 6 pixels, each once. Heads that are mostly hidden or outside the picture are neither
wanted nor wrong. Hands are scored over all found people the same way, and must hang on the right person's head.
"""

import argparse
import hashlib
import json
import pathlib
import sys
import time

import numpy as np
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models/training"))
import people  # noqa: E402
from train import frames_of  # noqa: E402

NEAR = 6.0


def session_of(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session, frame):
    picture = np.ascontiguousarray(frame.transpose(2, 0, 1)[None]).astype(np.float32)
    return session.run(["maps"], {"picture": picture})[0][0]


def match(found, wanted, ignored):
    """Pairs found with wanted points, surest first; what lies on an ignored point counts for nothing."""
    pairs, wrong, free = [], 0, list(range(len(wanted)))
    for number, at in enumerate(found):
        misses = [np.hypot(*(at - wanted[index])) for index in free]
        if misses and min(misses) <= NEAR:
            pairs.append((number, free.pop(int(np.argmin(misses)))))
        elif not any(np.hypot(*(at - other)) <= 2 * NEAR for other in ignored):
            wrong += 1
    return pairs, wrong, len(free)


class Tally:
    def __init__(self):
        self.right = self.wrong = self.missed = 0

    def add(self, right, wrong, missed):
        self.right += right
        self.wrong += wrong
        self.missed += missed

    def scores(self):
        precision = self.right / max(1, self.right + self.wrong)
        recall = self.right / max(1, self.right + self.missed)
        return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def score(answers, labels, head_least, hand_least):
    heads, hands = Tally(), Tally()
    head_errors, foot_errors, pixel_errors = [], [], []
    owned = owners = 0
    for maps, label in zip(answers, labels):
        present = [p for p in label if not np.isnan(p[0])]
        margin = lambda p: people.inside(p[people.HEAD])
        wanted = [p for p in present if margin(p) and p[people.HEAD_SEEN] >= people.HEAD_SEEN_LEAST]
        ignored = [p for p in present if not (margin(p) and p[people.HEAD_SEEN] >= people.HEAD_SEEN_LEAST)]
        answer = people.read_maps(maps, head_least, hand_least)
        pairs, wrong, missed = match(
            [a["head"] for a in answer],
            [p[people.HEAD] for p in wanted],
            [p[people.HEAD] for p in ignored],
        )
        heads.add(len(pairs), wrong, missed)
        person_of = {number: wanted[index] for number, index in pairs}
        for number, index in pairs:
            person = wanted[index]
            off = answer[number]["head"] - person[people.HEAD]
            pixel_errors.append(np.hypot(*off))
            head_errors.append(np.hypot(*(person[people.HEAD_METRES].reshape(2, 2) @ off)))
            if people.inside(person[people.FOOT]):
                off = answer[number]["foot"] - person[people.FOOT]
                foot_errors.append(np.hypot(*(person[people.FOOT_METRES].reshape(2, 2) @ off)))
        seen, unsure, whose = [], [], []
        for person in present:
            for place, field in people.HANDS:
                if np.isnan(person[place][0]) or not people.inside(person[place]):
                    continue
                if person[field] >= people.HAND_SEEN_LEAST:
                    seen.append(person[place])
                    whose.append(person)
                elif person[field] > people.HIDDEN:
                    unsure.append(person[place])
        reported = [(hand["at"], n) for n, a in enumerate(answer) for hand in a["hands"]]
        pairs, wrong, missed = match([at for at, _ in reported], seen, unsure)
        hands.add(len(pairs), wrong, missed)
        for number, index in pairs:
            owners += 1
            owner = person_of.get(reported[number][1])
            owned += owner is not None and np.array_equal(owner, whose[index], equal_nan=True)
    percentile = lambda values, share: float(np.percentile(values, share)) if values else float("nan")
    head, hand = heads.scores(), hands.scores()
    return {
        "head_precision": head[0],
        "head_recall": head[1],
        "head_f1": head[2],
        "head_pixels_median": percentile(pixel_errors, 50),
        "head_metres_median": percentile(head_errors, 50),
        "head_metres_p90": percentile(head_errors, 90),
        "foot_metres_median": percentile(foot_errors, 50),
        "foot_metres_p90": percentile(foot_errors, 90),
        "hand_precision": hand[0],
        "hand_recall": hand[1],
        "hand_f1": hand[2],
        "hand_owner_right": owned / max(1, owners),
        "heads": heads.right + heads.missed,
        "hands": hands.right + hands.missed,
    }


def choose(answers, labels):
    steps = np.arange(0.15, 0.61, 0.05)
    head = max(steps, key=lambda least: score(answers, labels, least, 0.3)["head_f1"])
    hand = max(steps, key=lambda least: score(answers, labels, head, least)["hand_f1"])
    return round(float(head), 2), round(float(hand), 2)


def golden(session, frames, labels, thresholds, folder):
    """The held-out frame with the most hands seen, as a PPM, and what the detector says about it."""
    hands = [sum((p[8] > 0.35) + (p[11] > 0.35) for p in label if not np.isnan(p[0])) for label in labels]
    frame = frames[int(np.argmax(hands))]
    folder.mkdir(parents=True, exist_ok=True)
    header = f"P6 {people.WIDTH} {people.HEIGHT} 255\n".encode()
    (folder / "frame.ppm").write_bytes(header + frame.tobytes())
    maps = run(session, frame)
    point = lambda values: [round(float(value), 3) for value in values]
    answer = [
        {
            "head": point(person["head"]),
            "foot": point(person["foot"]),
            "score": round(person["score"], 4),
            "hands": [{"at": point(h["at"]), "score": round(h["score"], 4)} for h in person["hands"]],
        }
        for person in people.read_maps(maps, *thresholds)
    ]
    (folder / "people.json").write_text(json.dumps(answer, indent=1) + "\n")
    print(f"golden: {len(answer)} people in {folder / 'frame.ppm'}")


def manifest(path, thresholds, result, frames, made, training, held_out):
    # Floors sit a little below what was measured, so that a later model may differ but not decay.
    floor = lambda key: round(result[key] - 0.02, 2)
    lines = [
        "# The trained models. Written by models/eval/evaluate.py from what it measured; recognition refuses a file",
        "# whose SHA-256 differs.",
        "",
        "[people]",
        f'file = "{path.name}"',
        f'sha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"',
        'licence = "GPL-3.0-only"',
        'about = "heads, foot points and hands of people under ceiling cameras; trained on rendered frames only"',
        f'input = "picture: float32 1x3x{people.HEIGHT}x{people.WIDTH}, red green blue, 0 to 255"',
        f'output = "maps: float32 1x{people.MAPS}x{people.ROWS}x{people.COLUMNS}, see models/training/people.py"',
        f"head_least = {thresholds[0]}",
        f"hand_least = {thresholds[1]}",
        f'training_data = "{made}"',
        f'training = "{training}"',
        "",
        "[people.held_out]",
        f'data = "{held_out}"',
        f"frames = {frames}",
        *(f"{key} = {value if isinstance(value, int) else round(value, 4)}" for key, value in result.items()),
        "",
        "[people.floor]",
        *(f"{key} = {floor(key)}" for key in ("head_precision", "head_recall", "head_f1", "hand_f1")),
    ]
    (path.parent / "manifest.toml").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/onnx/people.onnx")
    parser.add_argument("--choose", type=pathlib.Path, help="folder of frames to choose the thresholds on")
    parser.add_argument("--manifest", action="store_true")
    parser.add_argument("--made", default="", help="with --manifest: how the training frames were made")
    parser.add_argument("--training", default="", help="with --manifest: how the model was trained")
    parser.add_argument("--held-out", default="", help="with --manifest: how the held-out frames were made")
    parser.add_argument("--golden", type=pathlib.Path)
    arguments = parser.parse_args()

    session = session_of(arguments.model)
    frames, labels = frames_of(arguments.data)
    started = time.process_time()
    answers = [run(session, frame) for frame in frames]
    each = (time.process_time() - started) / len(frames) * 1000
    card = arguments.model.parent / "manifest.toml"
    if arguments.choose:
        other_frames, other_labels = frames_of(arguments.choose)
        thresholds = choose([run(session, frame) for frame in other_frames], other_labels)
    else:
        import tomllib

        entry = tomllib.loads(card.read_text())["people"]
        thresholds = entry["head_least"], entry["hand_least"]
    result = score(answers, labels, *thresholds)
    print(f"{len(frames)} frames, {each:.2f} ms of CPU a frame, thresholds {thresholds}")
    for key, value in result.items():
        print(f"{key:20} {value if isinstance(value, int) else f'{value:.4f}'}")
    if arguments.golden:
        golden(session, frames, labels, thresholds, arguments.golden)
    if arguments.manifest:
        manifest(
            arguments.model,
            thresholds,
            result,
            len(frames),
            arguments.made,
            arguments.training,
            arguments.held_out,
        )
    elif not arguments.choose:
        below = [key for key, least in entry["floor"].items() if result[key] < least]
        if below:
            sys.exit(f"below the floor: {', '.join(below)}")


if __name__ == "__main__":
    main()
