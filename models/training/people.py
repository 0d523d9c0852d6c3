"""The people detector: its network, its training targets and how its output is read.

The network sees 320 x 192 pixels and answers with ten maps of 80 x 48 cells of 4 x 4 pixels:

0    a head's middle lies in this cell, probability
1    a hand's middle lies in this cell, probability
2 3  x and y of the head, pixels from the cell's corner
4 5  x and y of the hand, pixels from the cell's corner
6 7  from the head to the foot point, pixels
8 9  from the hand to the head of its person, pixels

`read_maps` is the reference for models/recognition/src/maps.rs; golden files keep the two the same.
"""

import numpy as np
import torch
from torch import nn

WIDTH, HEIGHT, CELL = 320, 192, 4
COLUMNS, ROWS = WIDTH // CELL, HEIGHT // CELL
MAPS = 10

HEADS_MAX = 32
HANDS_MAX = 64
HEAD_APART = 5.0
HAND_APART = 4.0
# A hand belongs to the head that its vector points at, when it misses by less than this: pixels, and a share of
# the vector's length.
REACH_SLACK = 14.0
REACH_SHARE = 0.3


def separable(inputs, outputs, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = separable(width, width)

    def forward(self, x):
        return x + self.body(x)


class Net(nn.Module):
    """A depthwise-separable pyramid down to 1/32 and back up to 1/4."""

    def __init__(self, width=24):
        super().__init__()
        w = width
        self.stem = nn.Sequential(
            nn.Conv2d(3, w, 3, 2, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(inplace=True)
        )
        self.down4 = nn.Sequential(separable(w, w + 8, 2), Residual(w + 8))
        self.down8 = nn.Sequential(separable(w + 8, 2 * w, 2), *[Residual(2 * w) for _ in range(2)])
        self.down16 = nn.Sequential(separable(2 * w, 4 * w, 2), *[Residual(4 * w) for _ in range(3)])
        self.down32 = nn.Sequential(separable(4 * w, 5 * w, 2), *[Residual(5 * w) for _ in range(2)])
        self.side32 = nn.Conv2d(5 * w, 4 * w, 1)
        self.merge16 = separable(4 * w, 2 * w)
        self.merge8 = separable(2 * w, w + 8)
        self.merge4 = nn.Sequential(separable(w + 8, 2 * w), separable(2 * w, 2 * w))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv2d(2 * w, MAPS, 1)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.bias[:2] = -4.0
            # Vectors are pixels; the last layer starts small.
            self.head.weight *= 0.5
        scale = torch.tensor([1.0] * 2 + [2.0] * 4 + [24.0] * 4).view(1, MAPS, 1, 1)
        self.register_buffer("scale", scale)

    def forward(self, picture):
        """Picture: 0..255. Returns logits for the first two maps and pixels for the others."""
        return self.head(self.features(picture)) * self.scale

    def features(self, picture):
        x4 = self.down4(self.stem(picture / 128.0 - 1.0))
        x8 = self.down8(x4)
        x16 = self.down16(x8)
        x16 = x16 + self.up(self.side32(self.down32(x16)))
        x8 = x8 + self.up(self.merge16(x16))
        x4 = x4 + self.up(self.merge8(x8))
        return self.merge4(x4)


class Exported(nn.Module):
    """What the file holds: probabilities instead of logits."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, picture):
        maps = self.net(picture)
        return torch.cat([torch.sigmoid(maps[:, :2]), maps[:, 2:]], 1)


# Fields of a labelled person, as the data set writes them.
HEAD, HEAD_SEEN, HEAD_RADIUS, FOOT = slice(0, 2), 2, 3, slice(4, 6)
HANDS = [(slice(6, 8), 8), (slice(9, 11), 11)]
HEAD_METRES, FOOT_METRES = slice(12, 16), slice(16, 20)
HEAD_SEEN_LEAST = 0.30
HAND_SEEN_LEAST = 0.35
HIDDEN = 0.05


def inside(point):
    return 0 <= point[0] < WIDTH and 0 <= point[1] < HEIGHT


def targets(people):
    """Training targets of one frame: maps, weights of the two probability maps, and masks of the vectors."""
    maps = np.zeros((MAPS, ROWS, COLUMNS), np.float32)
    weights = np.ones((2, ROWS, COLUMNS), np.float32)
    masks = np.zeros((2, ROWS, COLUMNS), np.float32)
    for person in people:
        if np.isnan(person[0]):
            continue
        head = person[HEAD]
        if inside(head):
            sigma = max(0.8, person[HEAD_RADIUS] / CELL * 0.45)
            if person[HEAD_SEEN] >= HEAD_SEEN_LEAST:
                splat(maps, masks, 0, head, sigma, (2, head), (6, person[FOOT] - head))
            elif person[HEAD_SEEN] > HIDDEN:
                ignore(weights[0], head, sigma * 2)
        for place, seen in HANDS:
            hand = person[place]
            if np.isnan(hand[0]) or not inside(hand):
                continue
            if person[seen] >= HAND_SEEN_LEAST:
                splat(maps, masks, 1, hand, 0.8, (4, hand), (8, head - hand))
            elif person[seen] > HIDDEN:
                ignore(weights[1], hand, 1.6)
    return maps, weights, masks


def splat(maps, masks, kind, point, sigma, offset, vector):
    column, row = int(point[0] // CELL), int(point[1] // CELL)
    reach = int(np.ceil(3 * sigma))
    rows = np.arange(max(0, row - reach), min(ROWS, row + reach + 1))
    columns = np.arange(max(0, column - reach), min(COLUMNS, column + reach + 1))
    square = (rows[:, None] - row) ** 2 + (columns[None, :] - column) ** 2
    window = np.ix_(rows, columns)
    maps[kind][window] = np.maximum(maps[kind][window], np.exp(-square / (2 * sigma * sigma)))
    near = square <= 2
    for r, c in zip(*np.nonzero(near)):
        r, c = rows[r], columns[c]
        maps[offset[0], r, c] = offset[1][0] - c * CELL
        maps[offset[0] + 1, r, c] = offset[1][1] - r * CELL
        maps[vector[0], r, c] = vector[1][0]
        maps[vector[0] + 1, r, c] = vector[1][1]
        masks[kind, r, c] = 1.0 if (r, c) == (row, column) else max(masks[kind, r, c], 0.3)


def ignore(weights, point, radius):
    rows, columns = np.ogrid[:ROWS, :COLUMNS]
    square = (rows - point[1] / CELL) ** 2 + (columns - point[0] / CELL) ** 2
    weights[square <= radius * radius] = 0.0


def loss(output, maps, weights, masks):
    """Focal loss of the probabilities (CornerNet's form) and absolute error of the vectors; the sum and its parts."""
    truth = maps[:, :2]
    probability = torch.sigmoid(output[:, :2]).clamp(1e-5, 1 - 1e-5)
    positive = truth.eq(1).float()
    at_peak = torch.log(probability) * (1 - probability) ** 2 * positive
    elsewhere = torch.log(1 - probability) * probability**2 * (1 - truth) ** 4 * (1 - positive)
    focal = -((at_peak + elsewhere) * weights).sum((0, 2, 3)) / positive.sum((0, 2, 3)).clamp(min=1)
    head, hand = masks[:, 0:1], masks[:, 1:2]
    error = (output[:, 2:] - maps[:, 2:]).abs()
    mean = lambda values, mask: (values * mask).sum() / mask.sum().clamp(min=1)
    offsets = mean(error[:, 0:2], head) + mean(error[:, 2:4], hand)
    vectors = mean(error[:, 4:6], head) + mean(error[:, 6:8], hand)
    return focal.sum() + 0.25 * offsets + 0.05 * vectors, (*focal, offsets, vectors)


def peaks(probability, offset_x, offset_y, least, most, apart):
    """Cells that are at least `least` and the greatest of their 3 x 3 cells, surest first, `apart` pixels apart."""
    padded = np.pad(probability, 1, constant_values=-1.0)
    window = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).max((2, 3))
    rows, columns = np.nonzero((probability >= least) & (probability >= window))
    order = np.argsort(-probability[rows, columns], kind="stable")
    found = []
    for index in order:
        row, column = rows[index], columns[index]
        at = np.array(
            [column * CELL + offset_x[row, column], row * CELL + offset_y[row, column]], np.float32
        )
        if all(np.hypot(*(at - other[0])) >= apart for other in found):
            found.append((at, float(probability[row, column]), row, column))
        if len(found) == most:
            break
    return found


def read_maps(maps, head_least, hand_least):
    """People from the ten maps: a list of dicts of head, foot, score and hands, in pixels of 320 x 192."""
    people = []
    for at, score, row, column in peaks(maps[0], maps[2], maps[3], head_least, HEADS_MAX, HEAD_APART):
        foot = at + maps[6:8, row, column]
        people.append({"head": at, "foot": foot, "score": score, "hands": []})
    for at, score, row, column in peaks(maps[1], maps[4], maps[5], hand_least, HANDS_MAX, HAND_APART):
        vector = maps[8:10, row, column]
        misses = [np.hypot(*(at + vector - person["head"])) for person in people]
        slack = REACH_SLACK + REACH_SHARE * np.hypot(*vector)
        for index in np.argsort(misses, kind="stable"):
            if misses[index] < slack and len(people[index]["hands"]) < 2:
                people[index]["hands"].append({"at": at, "score": score})
                break
    return people
