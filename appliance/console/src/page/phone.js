// The phone page: a key that never leaves the browser, the certificate that vouches for it, and a code that is signed
// anew every ten seconds. After the first load it needs no network.
"use strict";

(() => {
  const WORDS = {
    en: {
      title: "Entry code", codeLabel: "Entry code, a QR code. Hold the screen to the reader at the gate.",
      hint: "Hold this to the reader. Turn the brightness up.",
      party: "Which of the party comes in", previous: "Person before", next: "Next person",
      person: (n, of) => `Person ${n} of ${of}`, until: (time) => `Pass valid until ${time}`,
      clock: "This phone's clock is off; the code is corrected by the store's.",
      forget: "Delete this pass", forgetAsk: "Delete the pass from this phone?",
      start: "This phone makes a key that never leaves it, and the store vouches for the key for a day.",
      token: "Console token", enrol: "Get a pass", enrolling: "One moment…",
      off: "This store gives out no demonstration passes: the console has no issuer key (phone_issuer in its manifest).",
      insecure: "Browsers give keys to secure pages only, and this page came over plain HTTP. Two ways:",
      insecureHttps: "Open it over HTTPS, through a reverse proxy in front of the console.",
      insecureAdb: "On Android with a cable, run this on the computer and open localhost on the phone:",
      badToken: "The console did not take the token.", expired: "The pass is over. Get a new one.",
      noNetwork: "The store's console cannot be reached.", refused: (why) => `The console refused: ${why}`,
      broken: (why) => `This browser cannot keep or use a key (a private window, perhaps): ${why}`,
    },
    ko: {
      title: "입장 코드", codeLabel: "입장 코드 QR. 게이트의 리더에 화면을 대 주세요.",
      hint: "리더에 대 주세요. 화면을 밝게 해 주세요.",
      party: "입장하는 일행", previous: "이전 사람", next: "다음 사람",
      person: (n, of) => `${of}명 중 ${n}번째`, until: (time) => `${time}까지 쓸 수 있어요`,
      clock: "휴대폰 시계가 맞지 않아 매장 시계로 맞췄어요.",
      forget: "입장권 지우기", forgetAsk: "이 휴대폰에서 입장권을 지울까요?",
      start: "휴대폰 밖으로 나가지 않는 키를 만들고, 매장이 하루 동안 그 키를 보증해요.",
      token: "콘솔 토큰", enrol: "입장권 받기", enrolling: "잠시만요…",
      off: "이 매장은 시험용 입장권을 발급하지 않아요. 콘솔에 발급 키가 없어요(매니페스트의 phone_issuer).",
      insecure: "브라우저는 안전한 페이지에만 키를 줘요. 이 페이지는 일반 HTTP로 열렸어요. 두 가지 방법이 있어요.",
      insecureHttps: "콘솔 앞에 둔 리버스 프록시를 거쳐 HTTPS로 여세요.",
      insecureAdb: "안드로이드는 케이블로 연결하고 컴퓨터에서 다음을 실행한 뒤 휴대폰에서 localhost를 여세요.",
      badToken: "콘솔이 토큰을 받지 않았어요.", expired: "입장권이 끝났어요. 새로 받아 주세요.",
      noNetwork: "매장 콘솔에 연결할 수 없어요.", refused: (why) => `콘솔이 거절했어요: ${why}`,
      broken: (why) => `이 브라우저는 키를 보관하거나 쓸 수 없어요(시크릿 창일 수 있어요): ${why}`,
    },
  };
  // Shoppers' clocks that are off by less are within what the gate forgives.
  const CLOCK_OFF_MS = 3000;
  const QUIET = 4;

  const $ = (id) => document.getElementById(id);
  const state = { language: "en", pass: null, offset: 0, person: 0, trouble: null, token: null, drawn: null, lock: null };
  const words = () => WORDS[state.language];
  const now = () => Date.now() + state.offset;

  // ---- what the phone keeps ----------------------------------------------------------------------------------------

  const store = (mode, work) => new Promise((resolve, reject) => {
    const open = indexedDB.open("stile", 1);
    open.onupgradeneeded = () => open.result.createObjectStore("pass");
    open.onerror = () => reject(open.error);
    open.onsuccess = () => {
      const database = open.result;
      const transaction = database.transaction("pass", mode);
      const request = work(transaction.objectStore("pass"));
      transaction.oncomplete = () => { database.close(); resolve(request.result); };
      transaction.onabort = transaction.onerror = () => { database.close(); reject(transaction.error); };
    };
  });
  const load = () => store("readonly", (pass) => pass.get("pass"));
  const save = (value) => store("readwrite", (pass) => pass.put(value, "pass"));
  const forget = () => store("readwrite", (pass) => pass.delete("pass"));

  // ---- screens -----------------------------------------------------------------------------------------------------

  const screen = (name) => {
    for (const id of ["pass", "start", "off", "insecure"]) $(id).hidden = id !== name;
    keepAwake(name === "pass");
  };
  const trouble = (say) => {
    state.trouble = say;
    $("trouble").textContent = say ? say(words()) : "";
  };

  const speak = (language) => {
    state.language = language;
    document.documentElement.lang = language;
    try { localStorage.setItem("stile-language", language); } catch { /* a private window: asked again next time */ }
    for (const element of document.querySelectorAll("[data-word]")) element.textContent = words()[element.dataset.word];
    for (const element of document.querySelectorAll("[data-label]")) {
      element.setAttribute("aria-label", words()[element.dataset.label]);
    }
    for (const button of document.querySelectorAll("[data-language]")) {
      button.setAttribute("aria-pressed", String(button.dataset.language === language));
    }
    document.title = words().title;
    trouble(state.trouble);
    describe();
  };

  const describe = () => {
    if (!state.pass) return;
    const { until, party } = StileCode.terms(state.pass.certificate);
    $("until").textContent = words().until(new Date(until).toLocaleString(state.language));
    $("party").hidden = party < 2;
    $("person").textContent = words().person(state.person + 1, party);
    $("fewer").disabled = state.person === 0;
    $("more").disabled = state.person >= party - 1;
    $("clock").hidden = state.offset === 0;
  };

  const draw = (digits) => {
    const canvas = $("code");
    const across = StileCode.SIDE + 2 * QUIET;
    // Whole device pixels a module: no reader likes blurred edges.
    const density = window.devicePixelRatio || 1;
    const room = Math.min(document.querySelector("main").clientWidth, window.innerHeight * 0.62) * density;
    const module = Math.max(2, Math.floor(room / across));
    canvas.width = canvas.height = across * module;
    canvas.style.width = canvas.style.height = `${across * module / density}px`;
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = "#000";
    StileCode.qr(digits).forEach((row, y) => row.forEach((dark, x) => {
      if (dark) pen.fillRect((x + QUIET) * module, (y + QUIET) * module, module, module);
    }));
  };

  // ---- the code ----------------------------------------------------------------------------------------------------

  const step = () => Math.floor(now() / StileCode.STEP_MS);

  const refresh = async () => {
    const { pass, person } = state;
    const wanted = `${step()}/${person}`;
    if (!pass || document.hidden || state.drawn === wanted) return;
    if (now() >= StileCode.terms(pass.certificate).until) {
      state.pass = null;
      trouble((say) => say.expired);
      return screen("start");
    }
    state.drawn = wanted;
    try {
      const digits = await StileCode.show(crypto.subtle, pass.key, pass.certificate, now(), person);
      draw(digits);
      $("code").dataset.digits = digits;
    } catch (error) {
      state.drawn = null;
      trouble((say) => say.broken(error.message));
    }
  };

  const tick = () => {
    if (state.pass && !document.hidden) {
      const left = 1 - (now() % StileCode.STEP_MS) / StileCode.STEP_MS;
      $("bar").firstElementChild.style.transform = `scaleX(${left})`;
      refresh();
    }
    setTimeout(tick, 250);
  };

  const keepAwake = async (wanted) => {
    try {
      if (wanted && !state.lock && navigator.wakeLock && !document.hidden) {
        state.lock = await navigator.wakeLock.request("screen");
        state.lock.addEventListener("release", () => { state.lock = null; });
      } else if (!wanted && state.lock) {
        await state.lock.release();
      }
    } catch { /* a low battery refuses it; the code works all the same */ }
  };

  const show = (pass) => {
    Object.assign(state, { pass, person: 0, drawn: null });
    trouble(null);
    screen("pass");
    describe();
    refresh();
  };

  // ---- enrolment ---------------------------------------------------------------------------------------------------

  const follow = (storeNow) => {
    const offset = storeNow - Date.now();
    state.offset = Math.abs(offset) > CLOCK_OFF_MS ? offset : 0;
  };

  const enrol = async () => {
    $("enrol").disabled = true;
    $("enrol").textContent = words().enrolling;
    trouble(null);
    try {
      const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign", "verify"]);
      const raw = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
      const headers = { "content-type": "application/json" };
      const token = $("token-input").value;
      if (token) headers.authorization = `Bearer ${token}`;
      const body = JSON.stringify({ public_key: StileCode.toHex(StileCode.compress(raw)) });
      let answer;
      try {
        answer = await fetch("/phone/enrol", { method: "POST", headers, body });
      } catch {
        return trouble((say) => say.noNetwork);
      }
      const said = await answer.json().catch(() => ({ error: `HTTP ${answer.status}` }));
      if (answer.status === 401) {
        if ($("token").hidden) $("token").hidden = false;
        else trouble((say) => say.badToken);
        return $("token-input").focus();
      }
      if (!answer.ok) return trouble((say) => say.refused(said.error));
      follow(said.now);
      const pass = { key: pair.privateKey, certificate: StileCode.fromHex(said.certificate), offset: state.offset };
      await save(pass);
      $("token-input").value = "";
      show(pass);
    } catch (error) {
      trouble((say) => say.broken(error.message));
    } finally {
      $("enrol").disabled = false;
      $("enrol").textContent = words().enrol;
    }
  };

  const begin = async () => {
    if (!window.isSecureContext || !crypto.subtle) {
      $("adb").textContent = `adb reverse tcp:8480 tcp:${location.port || 80}  →  http://localhost:8480/phone`;
      return screen("insecure");
    }
    let pass;
    try {
      pass = await load();
    } catch (error) {
      return trouble((say) => say.broken(error.message));
    }
    if (pass) {
      state.offset = pass.offset || 0;
      if (now() < StileCode.terms(pass.certificate).until) show(pass);
      else trouble((say) => say.expired);
    }
    try {
      const status = await (await fetch("/phone/status")).json();
      follow(status.now);
      describe();
      if (!state.pass) screen(status.enrolment ? "start" : "off");
    } catch {
      if (!state.pass) trouble((say) => say.noNetwork);
    }
    if (navigator.serviceWorker) navigator.serviceWorker.register("/phone-worker.js", { scope: "/phone" }).catch(() => {});
  };

  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => speak(button.dataset.language));
  }
  const turn = (by) => {
    state.person += by;
    describe();
    refresh();
  };
  $("fewer").addEventListener("click", () => turn(-1));
  $("more").addEventListener("click", () => turn(1));
  $("enrol").addEventListener("click", enrol);
  $("forget").addEventListener("click", async () => {
    if (!confirm(words().forgetAsk)) return;
    try {
      await forget();
      state.pass = null;
      screen("start");
    } catch (error) {
      trouble((say) => say.broken(error.message));
    }
  });
  window.addEventListener("resize", () => { state.drawn = null; refresh(); });
  document.addEventListener("visibilitychange", () => {
    keepAwake(!$("pass").hidden);
    refresh();
  });
  let language = null;
  try { language = localStorage.getItem("stile-language"); } catch { /* a private window */ }
  speak(WORDS[language] ? language : navigator.language.startsWith("ko") ? "ko" : "en");
  begin();
  tick();
})();
