"""Trains the people detector on rendered frames and writes it as ONNX.

    python models/training/train.py --data FOLDER --out people.onnx --minutes 20

The learning rate follows a cosine over the given wall time, so that any budget ends in a finished model.
"""

import argparse
import math
import pathlib
import time

import numpy as np
import torch

import people


def frames_of(folder):
    frames = np.memmap(folder / "frames.u8", np.uint8, "r").reshape(-1, people.HEIGHT, people.WIDTH, 3)
    labels = np.fromfile(folder / "labels.f32", "<f4").reshape(len(frames), 8, 20)
    return frames, labels


def flipped(frame, label):
    frame = frame[:, ::-1]
    label = label.copy()
    label[:, [0, 4, 6, 9]] = people.WIDTH - label[:, [0, 4, 6, 9]]
    return frame, label


def varied(pictures, random):
    """Other exposures, white balances, contrasts, focus, noise and dirt: N x 3 x H x W of 0..255."""
    count = len(pictures)
    shape = (count, 1, 1, 1)
    gain = torch.from_numpy(random.uniform(0.6, 1.4, shape).astype(np.float32))
    tint = torch.from_numpy(random.uniform(0.88, 1.12, (count, 3, 1, 1)).astype(np.float32))
    lift = torch.from_numpy(random.uniform(-25, 25, shape).astype(np.float32))
    pictures = pictures * (gain * tint) + lift
    for index in range(count):
        choice = random.random()
        if choice < 0.2:
            kernel = torch.nn.functional.avg_pool2d(pictures[index : index + 1], 3, 1, 1)
            pictures[index] = kernel[0]
        elif choice < 0.3:
            pictures[index] = pictures[index].mean(0, keepdim=True)
        elif choice < 0.45:
            sd = random.uniform(2, 12)
            pictures[index] += sd * torch.randn(pictures[index].shape)
        for _ in range(random.integers(0, 3)):
            # Things that this world has no shape for.
            x, y = random.integers(0, people.WIDTH - 24), random.integers(0, people.HEIGHT - 24)
            w, h = random.integers(3, 24, 2)
            colour = torch.from_numpy(random.uniform(0, 255, (3, 1, 1)).astype(np.float32))
            pictures[index, :, y : y + h, x : x + w] = colour
    return pictures.clamp_(0, 255)


def batch(frames, labels, chosen, random):
    pictures, maps, weights, masks = [], [], [], []
    for index in chosen:
        frame, label = frames[index], labels[index]
        if random.random() < 0.5:
            frame, label = flipped(frame, label)
        pictures.append(np.ascontiguousarray(frame))
        for values, value in zip((maps, weights, masks), people.targets(label)):
            values.append(value)
    pictures = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    pictures = varied(pictures, random).contiguous(memory_format=torch.channels_last)
    return pictures, *(torch.from_numpy(np.stack(values)) for values in (maps, weights, masks))


def export(net, path):
    net = people.Exported(net).eval()
    picture = torch.zeros(1, 3, people.HEIGHT, people.WIDTH)
    torch.onnx.export(
        net,
        (picture,),
        str(path),
        opset_version=17,
        input_names=["picture"],
        output_names=["maps"],
        do_constant_folding=True,
        dynamo=False,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from-weights", type=pathlib.Path, help="go on from an earlier run's .pt file")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    random = np.random.default_rng(arguments.seed)
    frames, labels = frames_of(arguments.data)
    net = people.Net(arguments.width).to(memory_format=torch.channels_last)
    if arguments.from_weights:
        net.load_state_dict(torch.load(arguments.from_weights))
    print(f"{len(frames)} frames, {sum(p.numel() for p in net.parameters())} parameters", flush=True)
    optimizer = torch.optim.AdamW(net.parameters(), lr=arguments.rate, weight_decay=1e-3)
    started = time.monotonic()
    step, recent, order = 0, [], []
    while (progress := (time.monotonic() - started) / (60 * arguments.minutes)) < 1:
        warm = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = arguments.rate * warm * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-6
        if len(order) < arguments.batch:
            order = list(random.permutation(len(frames)))
        chosen = [order.pop() for _ in range(arguments.batch)]
        pictures, maps, weights, masks = batch(frames, labels, chosen, random)
        # Half precision, but for the last layer: pixels need more than eight bits.
        with torch.autocast("cpu", torch.bfloat16):
            features = net.features(pictures)
        output = net.head(features.float()) * net.scale
        value, parts = people.loss(output, maps, weights, masks)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        recent.append([part.item() for part in parts])
        step += 1
        if step % 50 == 0:
            pace = step / (time.monotonic() - started)
            mean = " ".join(f"{part:.3f}" for part in np.mean(recent, 0))
            print(f"step {step} losses {mean} at {pace:.2f} steps/s, {progress:.0%}", flush=True)
            recent = []
    torch.save(net.state_dict(), arguments.out.with_suffix(".pt"))
    export(net, arguments.out)
    print(f"{step} steps, {step * arguments.batch / len(frames):.1f} passes over the frames")


if __name__ == "__main__":
    main()
