// Keeps the phone page at hand without a network. It serves what it has and fetches anew beside it, so a new version
// shows at the next opening.
"use strict";

const CACHE = "stile-phone";
const FILES = ["/phone", "/phone.css", "/phone-code.js", "/phone.js"];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== location.origin || !FILES.includes(url.pathname)) return;
  const cached = caches.open(CACHE);
  const fresh = fetch(event.request).then(async (answer) => {
    if (answer.ok) await (await cached).put(url.pathname, answer.clone());
    return answer;
  });
  event.waitUntil(fresh.catch(() => {}));
  event.respondWith(cached.then((cache) => cache.match(url.pathname)).then((kept) => kept || fresh));
});
