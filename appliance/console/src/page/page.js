"use strict";
// The live page. It only draws: every fact comes from the server's events, every text from WORDS.
const $ = id => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const TRAIL_POINTS = 60;
const TONES = ["#0b6e5f", "#3457b2", "#8a3c9c", "#a8431f", "#2f6d12", "#9a2457", "#4a5a86", "#6c5a00", "#00687f", "#7b3fd1"];
const ICONS = {
  good: "M4 12l5 5L20 6", bad: "M6 6l12 12M18 6L6 18", warn: "M12 4v10M12 19v.5", idle: "M5 12h14",
};
let language = localStorage.getItem("language") || (navigator.language.startsWith("ko") ? "ko" : "en");
let words = WORDS[language];
let known = null;
let linked = false;
const trails = new Map();
const people = new Map();

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "onclick") node.addEventListener("click", value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter(child => child != null));
  return node;
}
function shape(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
function fill(id, ...nodes) { $(id).replaceChildren(...nodes); }
function icon(kind) {
  const path = shape("path", { d: ICONS[kind], fill: "none", stroke: "currentColor", "stroke-width": 2.6,
    "stroke-linecap": "round", "stroke-linejoin": "round" });
  return shape("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, path);
}
function pill(kind, text) { return element("span", { class: "pill " + kind }, element("i"), text); }
function nameOf(names) { return names[language] || names.en || Object.values(names)[0] || "?"; }
function money(minor, currency) {
  const store = known.store;
  const options = { style: "currency", currency: currency || store.currency };
  return new Intl.NumberFormat(language, options).format(minor / 10 ** store.decimals);
}
function clockTime(ms) {
  const time = new Date(ms), two = number => String(number).padStart(2, "0");
  return two(time.getHours()) + ":" + two(time.getMinutes()) + ":" + two(time.getSeconds());
}
function dayTime(ms) { return new Date(ms).toLocaleDateString(language) + " " + clockTime(ms); }
function ago(ms) {
  const seconds = Math.max(0, Math.round((known.numbers.at - ms) / 1000));
  const text = seconds < 90 ? seconds + " " + words.s : Math.round(seconds / 60) + " " + words.min;
  return text + " " + words.ago;
}
// Never rounds up to certainty.
function percent(share) { return (share > 0.99 && share < 1 ? ">99" : Math.round(share * 100)) + " %"; }
function short(session) { return session.length > 8 ? "…" + session.slice(-6) : session; }
function tone(session) {
  let hash = 7;
  for (const letter of session) hash = (hash * 31 + letter.charCodeAt(0)) >>> 0;
  return TONES[hash % TONES.length];
}

/* ---- numbers ---- */
function drawNumbers() {
  const n = known.numbers;
  const p99 = known.lanes.map(lane => lane.latency_p99_ms).filter(ms => ms != null);
  const box = (label, value, kind) =>
    element("div", { class: "number " + (kind || "") }, element("b", {}, String(value)), element("span", {}, label));
  fill("numbers",
    box(words.people, n.people), box(words.shopping, n.shopping), box(words.settled, n.settled),
    box(words.takings, money(n.takings)),
    box(words.reviewsOpen, n.reviews, n.reviews ? "warn" : ""), box(words.callsOpen, n.calls, n.calls ? "bad" : ""),
    box(words.gate, p99.length ? Math.max(...p99).toFixed(1) + " ms" : "–"),
    box(words.unwell, n.unwell, n.unwell ? "bad" : ""));
  const kind = !linked ? "wait" : n.bus ? "good" : "bad";
  $("link").className = "pill " + kind;
  $("link").lastElementChild.textContent = !linked ? words.reconnecting : n.bus ? words.live : words.busDown;
  const waiting = n.reviews + n.calls;
  $("attention-count").textContent = waiting || "";
  $("attention-empty").hidden = waiting > 0;
  document.title = (waiting ? "(" + waiting + ") " : "") + "Stile";
  $("now").textContent = n.at ? dayTime(n.at) : "";
}

/* ---- floor ---- */
// The map is drawn in metres with y up on the page, as on the installer's plan.
function at(point) { return [point[0], -point[1]]; }
function drawMap() {
  const map = $("map"), store = known.store, [x0, y0, x1, y1] = store.bounds;
  // Room for the lanes' names, which stand on the street side of each lane.
  let [left, low, right, high] = [x0 - 0.2, y0 - 0.2, x1 + 0.2, y1 + 0.2];
  for (const lane of store.lanes) {
    const [x, y] = [lane.position[0] - lane.inward[0] * 0.85, lane.position[1] - lane.inward[1] * 0.85];
    [left, low, right, high] = [Math.min(left, x - 0.6), Math.min(low, y), Math.max(right, x + 0.6), Math.max(high, y + 0.2)];
  }
  map.setAttribute("viewBox", [left, -high, right - left, high - low].join(" "));
  const parts = [shape("rect", { class: "ground", x: x0, y: -y1, width: x1 - x0, height: y1 - y0, rx: 0.15 })];
  for (let x = Math.ceil(x0); x < x1; x++) parts.push(shape("line", { class: "grid", x1: x, x2: x, y1: -y1, y2: -y0 }));
  for (let y = Math.ceil(y0); y < y1; y++) parts.push(shape("line", { class: "grid", x1: x0, x2: x1, y1: -y, y2: -y }));
  for (const gondola of store.gondolas) {
    const [a, b, c, d] = gondola.footprint;
    parts.push(shape("rect", { class: "gondola", x: a, y: -d, width: c - a, height: d - b, rx: 0.06 }));
    parts.push(shape("text", { class: "gondola-name", x: (a + c) / 2, y: -(b + d) / 2 }, String(gondola.id)));
  }
  for (const lane of store.lanes) {
    const [x, y] = at(lane.position), [dx, dy] = [lane.inward[0], -lane.inward[1]], half = 0.45;
    parts.push(shape("line", { class: "gate-line closed", "data-lane": lane.id,
      x1: x - dy * half, y1: y + dx * half, x2: x + dy * half, y2: y - dx * half }));
    const arrow = (from, to) => {
      const [tx, ty] = [x + dx * to, y + dy * to], [fx, fy] = [x + dx * from, y + dy * from];
      const s = Math.sign(to - from) * 0.13;
      return shape("path", { fill: "none", stroke: "#52615d", "stroke-width": 0.05, "stroke-linecap": "round",
        d: `M${fx} ${fy}L${tx} ${ty}M${tx - dx * s - dy * 0.1} ${ty - dy * s + dx * 0.1}L${tx} ${ty}L${tx - dx * s + dy * 0.1} ${ty - dy * s - dx * 0.1}` });
    };
    if (lane.entry) parts.push(arrow(-0.3, 0.35)); else if (lane.exit) parts.push(arrow(0.35, -0.3));
    parts.push(shape("text", { class: "gate-name", x: x - dx * 0.62, y: y - dy * 0.62 + 0.09 }, lane.id));
  }
  for (const camera of store.cameras) {
    const [x, y] = at(camera.position);
    parts.push(shape("rect", { class: "camera", "data-camera": camera.id, x: x - 0.17, y: y - 0.17, width: 0.34, height: 0.34, rx: 0.08 }));
    parts.push(shape("text", { class: "camera-name", x, y: y + 0.01 }, String(camera.id)));
  }
  parts.push(shape("g", { id: "trails" }), shape("g", { id: "people" }));
  map.replaceChildren(...parts);
  trails.clear();
  people.clear();
  const swatch = inner => shape("svg", { viewBox: "0 0 16 16" }, inner);
  const marks = [
    shape("circle", { cx: 8, cy: 8, r: 7, fill: TONES[0] }), shape("circle", { cx: 8, cy: 8, r: 7, fill: "#6c7a76" }),
    shape("circle", { cx: 8, cy: 8, r: 5.8, fill: "#fff", stroke: "#c27803", "stroke-width": 2.2, "stroke-dasharray": "3.5 2" }),
    shape("circle", { cx: 8, cy: 8, r: 3.5, fill: TONES[0] }),
    shape("rect", { x: 2, y: 2, width: 12, height: 12, rx: 3, fill: "#fff", stroke: "#52615d", "stroke-width": 1.6 }),
    shape("rect", { x: 2, y: 2, width: 12, height: 12, rx: 3, fill: "#fde8e6", stroke: "#b3261e", "stroke-width": 1.6 }),
    shape("path", { d: "M2 8h12", stroke: "#52615d", "stroke-width": 4, "stroke-linecap": "round" }),
  ];
  fill("legend", ...marks.map((mark, index) => element("span", {}, swatch(mark), words.legend[index])));
}
function drawFloor() {
  const floor = known.floor;
  if (!$("people")) return;
  for (const camera of $("map").querySelectorAll("[data-camera]")) {
    const silent = floor.at > 0 && !floor.cameras.includes(Number(camera.dataset.camera));
    camera.classList.toggle("silent", silent);
  }
  const seen = new Set();
  for (const person of floor.people) {
    seen.add(person.track);
    const colour = person.session ? tone(person.session) : "#6c7a76";
    const [x, y] = at(person.position);
    let trail = trails.get(person.track);
    if (!trail) {
      trail = { points: [], line: shape("polyline", { class: "trail" }) };
      trails.set(person.track, trail);
      $("trails").append(trail.line);
    }
    const last = trail.points[trail.points.length - 1];
    if (!last || Math.hypot(last[0] - x, last[1] - y) > 0.06) trail.points.push([x, y]);
    if (trail.points.length > TRAIL_POINTS) trail.points.shift();
    trail.line.setAttribute("points", trail.points.map(point => point.map(value => value.toFixed(2)).join()).join(" "));
    trail.line.setAttribute("stroke", colour);
    let mark = people.get(person.track);
    if (!mark) {
      mark = shape("g", { class: "person" });
      people.set(person.track, mark);
      $("people").append(mark);
    }
    mark.style.transform = `translate(${x}px, ${y}px)`;
    mark.setAttribute("class", "person" + (person.tangled ? " tangled" : ""));
    const parts = [shape("circle", { class: "sd", r: Math.min(1.2, 0.25 + person.sd * 2), fill: colour, stroke: "none" })];
    for (const hand of person.hands) {
      const [hx, hy] = [hand[0] - person.position[0], person.position[1] - hand[1]];
      parts.push(shape("line", { class: "arm", x1: 0, y1: 0, x2: hx, y2: hy, stroke: colour }));
      parts.push(shape("circle", { cx: hx, cy: hy, r: 0.09, fill: colour }));
    }
    parts.push(shape("circle", { r: 0.25, fill: colour }), shape("text", {}, String(person.track % 1000)));
    mark.replaceChildren(...parts);
  }
  for (const [track, mark] of people) if (!seen.has(track)) { mark.remove(); people.delete(track); }
  for (const [track, trail] of trails) {
    if (seen.has(track)) continue;
    trail.points.splice(0, 2);
    trail.line.setAttribute("points", trail.points.map(point => point.join()).join(" "));
    if (!trail.points.length) { trail.line.remove(); trails.delete(track); }
  }
}

/* ---- gates ---- */
const NOTICE_KIND = { idle: "idle", scan_here: "idle", welcome: "good", goodbye: "good", refused: "bad", step_back: "warn",
  wrong_way: "warn", exit_only: "idle", free: "good", store_closed: "warn", store_full: "warn", staff_only: "warn",
  ask_staff: "warn", lane_closed: "warn", cleaning: "warn", maintenance: "warn", out_of_order: "bad", evacuate: "warn" };
const STATUS_KIND = { closed: "", open: "good", blocked: "warn", malfunction: "bad" };
const COLOUR = { idle: "var(--soft)", good: "var(--good)", bad: "var(--bad)", warn: "var(--warn)" };
function drawLanes() {
  const cards = known.lanes.map(lane => {
    const kind = NOTICE_KIND[lane.notice] || "idle";
    const says = words.notice[lane.notice] + (lane.reason ? ": " + words.reason[lane.reason] : "");
    const count = (value, label) => element("span", {}, element("b", {}, String(value)), label);
    const line = $("map").querySelector(`[data-lane="${CSS.escape(lane.lane)}"]`);
    if (line) line.setAttribute("class", "gate-line " + lane.status);
    const ms = value => value == null ? "–" : value.toFixed(1);
    return element("div", { class: "lane" },
      element("header", {}, element("b", {}, lane.lane), pill(STATUS_KIND[lane.status], words.status[lane.status])),
      element("div", { class: "says", style: null, "data-kind": kind }, icon(kind), says),
      element("div", { class: "counts" }, count(lane.entries, words.entries), count(lane.exits, words.exits),
        count(lane.unlocks, words.unlocks), count(lane.denials, words.denials)),
      element("div", { class: "counts" },
        element("span", {}, element("b", {}, ms(lane.latency_p50_ms) + " / " + ms(lane.latency_p99_ms) + " ms"), words.latency)),
      element("div", { class: "counts" }, ...modes(lane.modes)),
      element("div", { class: "row" }, ...Object.keys(ORDERS).map(name =>
        element("button", { type: "button", onclick: () => order(lane, name) }, words.order[name]))));
  });
  fill("lanes", ...(cards.length ? cards : [element("p", { class: "empty" }, words.noLanes)]));
  for (const says of $("lanes").querySelectorAll(".says")) says.style.color = COLOUR[says.dataset.kind];
}

function modes(now) {
  const one = (label, value) => element("span", {}, label + " ", element("b", {}, value));
  const list = [one(words.entry, words.mode[now.entry]), one(words.exit, words.mode[now.exit]),
    one(words.serves, words.service[now.service])];
  return now.store_open ? list : [...list, element("b", {}, words.storeClosed)];
}
const MODES = ["group", "single", "free", "controlled", "locked"];
const SERVICES = ["shopping", "staff", "cleaning", "maintenance"];
const ORDERS = {
  open_entry: { task: () => ({ kind: "open", direction: "entry" }) },
  open_exit: { task: () => ({ kind: "open", direction: "exit" }) },
  set_mode: { choices: MODES, texts: "mode", now: lane => lane.modes.entry,
    task: mode => ({ kind: "set_mode", direction: "entry", mode }) },
  set_service: { choices: SERVICES, texts: "service", now: lane => lane.modes.service,
    task: service => ({ kind: "set_service", service }) },
};
async function order(lane, name) {
  const { choices, texts, now, task } = ORDERS[name], select = $("order-choice");
  $("order-label").textContent = lane.lane + ": " + words.order[name];
  select.closest("label").hidden = !choices;
  select.replaceChildren(...(choices || []).map(choice =>
    element("option", { value: choice, selected: choice === now(lane) }, words[texts][choice])));
  $("order-by").value = localStorage.getItem("by") || "";
  $("order-reason").value = "";
  if (!await confirmed($("order"))) return;
  const [by, reason] = [$("order-by").value.trim(), $("order-reason").value.trim()];
  if (by) localStorage.setItem("by", by);
  send("/api/v1/lanes/" + encodeURIComponent(lane.lane) + "/orders", { task: task(select.value), by, reason });
}
const OUTCOME_KIND = { waiting: "wait", done: "good", expired: "bad", refused: "bad", unanswered: "bad" };
function eventText(event) {
  if (event.kind !== "order") return words.event[event.kind + (event.active === false ? "_over" : "")];
  if (!event.task) return words.order.other;
  const { kind, direction, mode, service } = event.task;
  if (kind === "open") return words.order["open_" + direction];
  if (kind === "set_mode") return words[direction] + ": " + words.mode[mode];
  return words.serves + ": " + words.service[service];
}
function eventDetail(event) {
  const parts = [];
  if (event.passage != null) parts.push(words.passage + " " + event.passage);
  if (event.people != null) parts.push(words.tooMany(event.people));
  if (event.witness) parts.push(words.witness[event.witness]);
  if (event.member) parts.push(words.member + " " + event.member);
  if (event.since != null) parts.push(words.since(clockTime(event.since)));
  if (event.refusal) parts.push(words.refusal[event.refusal]);
  if (event.by) parts.push(event.by + ": " + event.reason);
  return parts.join(" · ");
}
function drawGateEvents() {
  const list = known.gate_events.map(event => {
    const detail = eventDetail(event);
    return element("div", { class: "event" + (event.incident ? " incident" : "") },
      element("time", { title: dayTime(event.at) }, clockTime(event.at)), element("b", {}, event.lane),
      element("span", {}, eventText(event)),
      event.outcome ? pill(OUTCOME_KIND[event.outcome], words.outcome[event.outcome]) : element("span", {}),
      detail ? element("small", {}, detail) : null);
  });
  fill("gate-events", ...(list.length ? list : [element("p", { class: "empty" }, words.noGateEvents)]));
}

/* ---- carts and receipts ---- */
function meter(confidence) {
  const colour = confidence >= 0.95 ? "#14703c" : confidence >= 0.8 ? "#c27803" : "#b3261e";
  const bar = shape("svg", { viewBox: "0 0 100 5", preserveAspectRatio: "none", "aria-hidden": "true" },
    shape("rect", { width: 100, height: 5, rx: 2.5, fill: "#e6ebe9" }),
    shape("rect", { width: Math.max(2, confidence * 100), height: 5, rx: 2.5, fill: colour }));
  return element("div", { class: "meter" }, bar, percent(confidence) + " " + words.sure);
}
function lineOf(line, currency) {
  return element("div", { class: "line" },
    element("span", {}, line.quantity + " × " + nameOf(line.names)),
    element("span", { class: "price" }, money(line.price * line.quantity, currency)), meter(line.confidence));
}
const STATE_KIND = { shopping: "brand", settling: "warn", in_review: "warn", settled: "good" };
function drawSessions() {
  const cards = known.sessions.filter(session => session.state !== "settled").map(session => {
    const card = element("div", { class: "session" },
      element("header", {}, element("b", { title: session.session }, short(session.session)),
        pill(STATE_KIND[session.state], words.state[session.state])),
      element("small", { class: "soft" }, ago(session.entered)),
      ...(session.lines.length ? session.lines.map(line => lineOf(line)) : [element("p", { class: "empty" }, words.emptyCart)]));
    if (session.lines.length) card.append(element("div", { class: "sum" }, element("span", {}, " "), money(session.total)));
    card.style.setProperty("--tone", tone(session.session));
    return card;
  });
  fill("sessions", ...(cards.length ? cards : [element("p", { class: "empty" }, words.noCarts)]));
}
function drawReceipts() {
  const open = new Set([...$("receipts").querySelectorAll("details[open]")].map(node => node.dataset.id));
  const list = known.receipts.map(receipt => {
    const count = receipt.lines.reduce((sum, line) => sum + line.quantity, 0);
    const what = receipt.lines.map(line => nameOf(line.names)).join(", ") || words.nothing;
    const details = element("details", { class: "receipt", "data-id": receipt.id, open: open.has(receipt.id) },
      element("summary", {}, element("span", {}, clockTime(receipt.settled)),
        element("span", {}, count + " · " + what), element("b", {}, money(receipt.total, receipt.currency))),
      element("p", { class: "soft" }, short(receipt.session) + " · " + (receipt.member || words.visitor)),
      ...receipt.lines.map(line => lineOf(line, receipt.currency)));
    return details;
  });
  fill("receipts", ...(list.length ? list : [element("p", { class: "empty" }, words.noReceipts)]));
}

/* ---- what needs a person ---- */
function drawCalls() {
  fill("calls", ...known.calls.map(call => {
    const say = state => element("button", { type: "button", class: state === "coming" ? "primary" : "",
      onclick: () => send("/api/v1/staff-calls", { call: call.id, state }) }, words.callSays[state]);
    const next = { sent: ["seen", "coming"], seen: ["coming", "closed"], coming: ["closed"], closed: [] }[call.state];
    const kind = { sent: "bad", seen: "warn", coming: "brand", closed: "good" }[call.state];
    return element("div", { class: "task call" + (call.state === "closed" ? " done" : "") },
      element("header", {}, element("b", {}, words.callFrom + " " + call.from), pill(kind, words.call[call.state])),
      element("small", {}, ago(call.at)), next.length ? element("div", { class: "row" }, ...next.map(say)) : null);
  }));
}
function itemsText(items) {
  if (!items.length) return words.nothing;
  const one = item => (item.count > 0 ? words.took : words.put)(Math.abs(item.count), nameOf(item.names));
  return items.map(one).join(" + ");
}
function drawReviews() {
  const sending = new Map(known.decisions.map(decision => [decision.event, decision]));
  fill("reviews", ...known.reviews.map(review => {
    const decision = sending.get(review.event);
    const choose = candidate => element("button", { type: "button", class: "choice", disabled: !!decision,
      onclick: () => decide(review, candidate) },
      bar(candidate.probability),
      element("b", {}, candidate.fixed ? words.chargeNobody : itemsText(candidate.items)), element("i", {}, candidate.fixed ? "" : percent(candidate.probability)),
      element("small", {}, candidate.fixed ? "" : candidate.session ? short(candidate.session) : words.nobody));
    const choices = review.candidates.map(choose);
    if (!review.candidates.some(candidate => !candidate.session)) {
      choices.push(choose({ session: null, items: [], probability: 0, fixed: true }));
    }
    const delta = (review.delta_g > 0 ? "+" : "") + review.delta_g.toFixed(1) + " g";
    return element("div", { class: "task" },
      element("header", {}, element("b", {}, words.review), element("small", {}, ago(review.at))),
      element("small", {}, words.shelf + " " + review.plates.join(", ") + " · " + delta),
      ...choices,
      decision ? element("p", { class: "soft" }, decision.stored ? words.stored : words.sending) : null);
  }));
}
function bar(share) {
  const node = element("span", { class: "bar" });
  node.style.width = share * 100 + "%";
  return node;
}
async function decide(review, candidate) {
  let by = localStorage.getItem("by");
  if (!by) {
    by = await ask(words.askName);
    if (!by) return;
    localStorage.setItem("by", by);
  }
  const items = candidate.items.map(item => ({ product: item.product, count: item.count }));
  send("/api/v1/decisions", { event: review.event, session: candidate.session || null, items, by });
}
function confirmed(dialog) {
  // Escape leaves the value of the time before.
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise(resolve => dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true }));
}
async function ask(label) {
  const input = $("ask-input");
  $("ask-label").textContent = label;
  input.value = "";
  return await confirmed($("ask")) ? input.value.trim() : "";
}
async function send(path, body, again) {
  const headers = { "content-type": "application/json" };
  const token = sessionStorage.getItem("token");
  if (token) headers.authorization = "Bearer " + token;
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  } catch (error) {
    return toast(words.failed + ": " + error.message);
  }
  if (answer.status === 401 && !again) {
    const given = await ask(words.askToken);
    if (!given) return;
    sessionStorage.setItem("token", given);
    return send(path, body, true);
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({ error: answer.status }));
    toast(words.failed + ": " + problem.error);
  }
}
let toastTimer;
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 6000);
}

/* ---- health ---- */
function drawHealth() {
  const order = { down: 0, degraded: 1, up: 2 };
  const kind = { up: "good", degraded: "warn", down: "bad" };
  const list = [...known.health].sort((a, b) => order[a.state] - order[b.state]).map(device =>
    element("div", { class: "device" },
      element("span", {}, device.service + (device.device === "service" ? "" : " · " + device.device)),
      pill(kind[device.state], words.health_[device.state]), device.detail ? element("p", {}, device.detail) : null));
  fill("health", ...(list.length ? list : [element("p", { class: "empty" }, words.noHealth)]));
}

/* ---- whole page ---- */
function drawAll() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = words[node.dataset.word];
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", button.dataset.language === language);
  }
  if (!known) return;
  $("store-name").textContent = known.store.name;
  drawMap(); drawFloor(); drawLanes(); drawNumbers(); drawSessions(); drawReceipts(); drawCalls(); drawReviews(); drawHealth();
  drawGateEvents();
}
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    language = button.dataset.language;
    words = WORDS[language];
    localStorage.setItem("language", language);
    drawAll();
  });
}
const DRAW = { floor: [drawFloor], lanes: [drawLanes], sessions: [drawSessions, drawFloor], reviews: [drawReviews],
  receipts: [drawReceipts], decisions: [drawReviews], calls: [drawCalls], health: [drawHealth],
  gate_events: [drawGateEvents], numbers: [drawNumbers] };
const asked = new URLSearchParams(location.search).get("language");
if (WORDS[asked]) { language = asked; words = WORDS[language]; }
drawAll();
const source = new EventSource("/api/v1/events");
source.addEventListener("open", () => { linked = true; });
source.addEventListener("error", () => { linked = false; if (known) drawNumbers(); });
source.addEventListener("snapshot", event => { known = JSON.parse(event.data); linked = true; drawAll(); });
for (const [name, draws] of Object.entries(DRAW)) {
  source.addEventListener(name, event => {
    if (!known) return;
    known[name] = JSON.parse(event.data);
    if (name === "floor") { known.numbers.at = Math.max(known.numbers.at, known.floor.at); known.numbers.people = known.floor.people.length; }
    for (const draw of draws) draw();
    if (name === "floor" || name === "lanes") drawNumbers();
  });
}
