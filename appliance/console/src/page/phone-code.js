// What a member's phone does: the digits of an entry code of profile D, and their QR code. Pure but for WebCrypto;
// the page draws what this returns, and the console's tests run it in Node.
"use strict";

const StileCode = (() => {
  // ---- bytes -------------------------------------------------------------------------------------------------------

  const join = (...parts) => {
    const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  };
  const text = (string) => new TextEncoder().encode(string);
  const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const fromHex = (hex) => {
    if (!/^([0-9a-f]{2})*$/.test(hex)) throw new Error("not hexadecimal digits");
    return Uint8Array.from(hex.match(/../g) || [], (pair) => parseInt(pair, 16));
  };

  // Seven bytes are 17 digits; a tail of one to six bytes is 3, 5, 8, 10, 13 or 15.
  const WIDTH = [0, 3, 5, 8, 10, 13, 15, 17];
  const toDigits = (bytes) => {
    let digits = "";
    for (let at = 0; at < bytes.length; at += 7) {
      const group = bytes.subarray(at, at + 7);
      let value = 0n;
      for (const byte of group) value = value << 8n | BigInt(byte);
      digits += value.toString().padStart(WIDTH[group.length], "0");
    }
    return digits;
  };

  // ---- the code of profile D ---------------------------------------------------------------------------------------

  const STEP_MS = 10_000;
  const CERTIFICATE_LENGTH = 117;

  // A P-256 point as browsers export it (0x04, x, y), as the certificate carries it (parity, x).
  const compress = (raw) => {
    if (raw.length !== 65 || raw[0] !== 4) throw new Error("not an uncompressed P-256 point");
    return join(Uint8Array.of(2 + (raw[64] & 1)), raw.subarray(1, 33));
  };

  // Shown at (unix seconds, to the step) and nonce: party member, and how far into the step.
  const moment = (nowMs, partyMember) => {
    const step = Math.floor(nowMs / STEP_MS) * STEP_MS;
    const nonce = (partyMember & 15) << 12 | Math.floor((nowMs - step) * 4096 / STEP_MS);
    const view = new DataView(new ArrayBuffer(6));
    view.setUint32(0, step / 1000);
    view.setUint16(4, nonce);
    return new Uint8Array(view.buffer);
  };

  const show = async (subtle, key, certificate, nowMs, partyMember) => {
    if (certificate.length !== CERTIFICATE_LENGTH) throw new Error("not a certificate");
    const shown = moment(nowMs, partyMember);
    const hash = new Uint8Array(await subtle.digest("SHA-256", certificate));
    const signed = join(text("GE1-SHOW\0"), hash, shown);
    const signature = new Uint8Array(await subtle.sign({ name: "ECDSA", hash: "SHA-256" }, key, signed));
    return toDigits(join(certificate, shown, signature));
  };

  // What the page says about a certificate.
  const terms = (certificate) => {
    const view = new DataView(certificate.buffer, certificate.byteOffset, certificate.length);
    const issued = view.getUint32(13);
    return { from: issued * 1000, until: (issued + view.getUint16(17) * 600) * 1000, party: certificate[19] & 15 };
  };

  // ---- QR code, version 10, error correction M, numeric mode (ISO/IEC 18004) ---------------------------------------

  const VERSION = 10;
  const SIDE = 17 + 4 * VERSION;
  const BLOCKS = [43, 43, 43, 43, 44]; // data codewords of each block
  const CHECKS = 26; // error-correction codewords of each block
  const DATA = BLOCKS.reduce((sum, length) => sum + length, 0);
  const ALIGNMENT = [6, 28, 50];

  const EXP = new Uint8Array(512);
  const LOG = new Uint8Array(256);
  for (let power = 0, value = 1; power < 255; power++) {
    EXP[power] = EXP[power + 255] = value;
    LOG[value] = power;
    value = value << 1 ^ (value & 128 ? 0x11d : 0);
  }
  const times = (a, b) => a && b ? EXP[LOG[a] + LOG[b]] : 0;

  const GENERATOR = (() => {
    let polynomial = [1];
    for (let root = 0; root < CHECKS; root++) {
      const next = new Array(polynomial.length + 1).fill(0);
      polynomial.forEach((factor, at) => {
        next[at] ^= factor;
        next[at + 1] ^= times(factor, EXP[root]);
      });
      polynomial = next;
    }
    return polynomial.slice(1);
  })();

  const checks = (block) => {
    const rest = new Uint8Array(CHECKS);
    for (const byte of block) {
      const factor = byte ^ rest[0];
      rest.copyWithin(0, 1);
      rest[CHECKS - 1] = 0;
      GENERATOR.forEach((value, at) => { rest[at] ^= times(value, factor); });
    }
    return rest;
  };

  const codewords = (digits) => {
    const bits = [];
    const put = (value, count) => {
      for (let bit = count - 1; bit >= 0; bit--) bits.push(value >> bit & 1);
    };
    put(1, 4);
    put(digits.length, 12);
    for (let at = 0; at < digits.length; at += 3) {
      const group = digits.slice(at, at + 3);
      put(Number(group), [0, 4, 7, 10][group.length]);
    }
    if (bits.length > DATA * 8) throw new Error("more digits than version 10-M holds");
    put(0, Math.min(4, DATA * 8 - bits.length));
    while (bits.length % 8) bits.push(0);
    const data = [];
    for (let at = 0; at < bits.length; at += 8) data.push(parseInt(bits.slice(at, at + 8).join(""), 2));
    for (let pad = 0; data.length < DATA; pad ^= 1) data.push(pad ? 0x11 : 0xec);

    let from = 0;
    const blocks = BLOCKS.map((length) => data.slice(from, from += length));
    const corrections = blocks.map(checks);
    const all = [];
    for (let at = 0; at < Math.max(...BLOCKS); at++) {
      for (const block of blocks) if (at < block.length) all.push(block[at]);
    }
    for (let at = 0; at < CHECKS; at++) for (const block of corrections) all.push(block[at]);
    return all;
  };

  const remainder = (value, degree, generator) => {
    let rest = value;
    for (let step = 0; step < degree; step++) rest = rest << 1 ^ (rest >> degree - 1) * generator;
    return rest;
  };

  // The fixed patterns; null where data goes.
  const frame = () => {
    const modules = Array.from({ length: SIDE }, () => new Array(SIDE).fill(null));
    const set = (x, y, dark) => {
      if (x >= 0 && y >= 0 && x < SIDE && y < SIDE) modules[y][x] = dark;
    };
    for (let at = 0; at < SIDE; at++) {
      set(6, at, at % 2 === 0);
      set(at, 6, at % 2 === 0);
    }
    for (const [x, y] of [[3, 3], [SIDE - 4, 3], [3, SIDE - 4]]) {
      for (let dy = -4; dy <= 4; dy++) {
        for (let dx = -4; dx <= 4; dx++) {
          const ring = Math.max(Math.abs(dx), Math.abs(dy));
          set(x + dx, y + dy, ring !== 2 && ring !== 4);
        }
      }
    }
    const last = ALIGNMENT.at(-1);
    for (const y of ALIGNMENT) {
      for (const x of ALIGNMENT) {
        if ((x === 6 && y === 6) || (x === 6 && y === last) || (x === last && y === 6)) continue;
        for (let dy = -2; dy <= 2; dy++) {
          for (let dx = -2; dx <= 2; dx++) set(x + dx, y + dy, Math.max(Math.abs(dx), Math.abs(dy)) !== 1);
        }
      }
    }
    const version = VERSION << 12 | remainder(VERSION, 12, 0x1f25);
    for (let bit = 0; bit < 18; bit++) {
      const dark = (version >> bit & 1) === 1;
      const [long, short] = [SIDE - 11 + bit % 3, Math.floor(bit / 3)];
      set(long, short, dark);
      set(short, long, dark);
    }
    format(set, 0);
    return modules;
  };

  const format = (set, mask) => {
    // Level M is 00, so the five bits are those of the mask.
    const bits = (mask << 10 | remainder(mask, 10, 0x537)) ^ 0x5412;
    for (let bit = 0; bit < 15; bit++) {
      const dark = (bits >> bit & 1) === 1;
      if (bit < 6) set(8, bit, dark);
      else if (bit < 8) set(8, bit + 1, dark);
      else if (bit === 8) set(7, 8, dark);
      else set(14 - bit, 8, dark);
      if (bit < 8) set(SIDE - 1 - bit, 8, dark);
      else set(8, SIDE - 15 + bit, dark);
    }
    set(8, SIDE - 8, true);
  };

  const MASKS = [
    (x, y) => (x + y) % 2,
    (x, y) => y % 2,
    (x) => x % 3,
    (x, y) => (x + y) % 3,
    (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2,
    (x, y) => x * y % 2 + x * y % 3,
    (x, y) => (x * y % 2 + x * y % 3) % 2,
    (x, y) => ((x + y) % 2 + x * y % 3) % 2,
  ];

  const penalty = (modules) => {
    let sum = 0;
    let dark = 0;
    const finder = /(?=00001011101|10111010000)/g;
    for (const turned of [false, true]) {
      for (let row = 0; row < SIDE; row++) {
        let line = "";
        for (let at = 0; at < SIDE; at++) line += (turned ? modules[at][row] : modules[row][at]) ? "1" : "0";
        for (const run of line.match(/0{5,}|1{5,}/g) || []) sum += run.length - 2;
        sum += 40 * (line.match(finder) || []).length;
        if (!turned) dark += line.split("1").length - 1;
      }
    }
    for (let y = 1; y < SIDE; y++) {
      for (let x = 1; x < SIDE; x++) {
        const same = modules[y][x];
        if (same === modules[y - 1][x] && same === modules[y][x - 1] && same === modules[y - 1][x - 1]) sum += 3;
      }
    }
    return sum + 10 * Math.floor(Math.abs(dark * 20 / (SIDE * SIDE) - 10));
  };

  // The modules, true for dark, without quiet zone.
  const qr = (digits) => {
    if (!/^[0-9]+$/.test(digits)) throw new Error("not digits");
    const words = codewords(digits);
    const empty = frame();
    const places = [];
    for (let right = SIDE - 1; right >= 1; right -= 2) {
      if (right === 6) right = 5;
      const upward = (right + 1 & 2) === 0;
      for (let step = 0; step < SIDE; step++) {
        const y = upward ? SIDE - 1 - step : step;
        for (const x of [right, right - 1]) if (empty[y][x] === null) places.push([x, y]);
      }
    }
    let best = null;
    MASKS.forEach((mask, number) => {
      const modules = empty.map((row) => row.slice());
      places.forEach(([x, y], at) => {
        const bit = (words[at >> 3] ?? 0) >> 7 - (at & 7) & 1;
        modules[y][x] = (bit ^ (mask(x, y) === 0 ? 1 : 0)) === 1;
      });
      format((x, y, dark) => { modules[y][x] = dark; }, number);
      const worth = penalty(modules);
      if (best === null || worth < best.worth) best = { worth, modules };
    });
    return best.modules;
  };

  return { SIDE, STEP_MS, compress, fromHex, qr, show, terms, toDigits, toHex };
})();

if (typeof module !== "undefined") module.exports = StileCode;
