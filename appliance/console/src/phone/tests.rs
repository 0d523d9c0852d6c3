//! The phone page: what it is served with, who gets a pass, and its script run in Node against a gate's admission.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use axum::body::Body;
use axum::http;
use engine::admission::issue::{Certificate, Device, device_public_key};
use engine::admission::{Admission, Issuers, Settings};
use engine::store::StoreMap;
use http_body_util::BodyExt;
use runtime::bus::Bus;
use runtime::clock::Clock;
use runtime::manifest::ConsoleSettings;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

use super::*;
use crate::api;

const START: Instant = Instant(1_795_305_600_000);
const GROUP: u32 = 7;
const SEED: [u8; 32] = [4; 32];

fn issuer() -> Issuer {
    Issuer::new(1, GROUP, &[1; 32])
}

fn map() -> StoreMap {
    StoreMap {
        name: "Test".to_owned(),
        bounds: [0.0, 0.0, 8.0, 6.0],
        gondolas: Vec::new(),
        lanes: Vec::new(),
        cameras: Vec::new(),
        plates: Vec::new(),
        products: Vec::new(),
        facings: Vec::new(),
    }
}

fn shared(issuer: Option<Issuer>, token: Option<&str>) -> Arc<Shared> {
    let address = SocketAddr::from(([127, 0, 0, 1], 8480));
    let clock = Clock::starting_at(START);
    let token = token.map(ToOwned::to_owned);
    let mut shared = Shared::new(map(), Bus::local(), clock, address, token, watch::channel(false).1);
    shared.phone = issuer.map(|issuer| Enrolment { issuer, given: Mutex::default() });
    Arc::new(shared)
}

async fn ask(shared: &Arc<Shared>, request: http::Request<Body>) -> (http::response::Parts, String) {
    let answer = api::router(Arc::clone(shared)).oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn get(shared: &Arc<Shared>, path: &str) -> (http::response::Parts, String) {
    let request = http::Request::get(path).header("host", "localhost:8480").body(Body::empty()).unwrap();
    ask(shared, request).await
}

async fn enrol(shared: &Arc<Shared>, token: Option<&str>, body: &Value) -> (StatusCode, Value) {
    let mut request = http::Request::post("/phone/enrol")
        .header("host", "localhost:8480")
        .header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let (parts, text) = ask(shared, request.body(Body::from(body.to_string())).unwrap()).await;
    (parts.status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

fn gate() -> Admission {
    let mut issuers = Issuers::default();
    issuers.install(1, issuer().public_key());
    Admission::new(Settings { store_group: GROUP, issuers, ..Settings::default() })
}

fn request() -> Value {
    json!({ "public_key": to_hex(&device_public_key(&SEED)) })
}

#[tokio::test(start_paused = true)]
async fn the_page_loads_nothing_from_elsewhere() {
    let shared = shared(None, None);
    let files = ["/phone", "/phone.css", "/phone.js", "/phone-code.js", "/phone-worker.js"];
    for file in files {
        let (parts, text) = get(&shared, file).await;
        assert_eq!(parts.status, StatusCode::OK, "{file}");
        let policy = parts.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        for elsewhere in ["src=\"http", "href=\"http", "src=\"//", "href=\"//", "@import", "url(", "import("]
        {
            assert!(!text.contains(elsewhere), "{file} contains {elsewhere}");
        }
    }
    let (_, html) = get(&shared, "/phone").await;
    for part in html.split("src=\"").skip(1).chain(html.split("stylesheet\" href=\"").skip(1)) {
        let file = part.split('"').next().unwrap();
        assert!(files.contains(&file), "{file} is served by nobody");
    }
}

#[tokio::test(start_paused = true)]
async fn every_word_has_both_languages_and_a_place() {
    let script = include_str!("../page/phone.js");
    let html = include_str!("../page/phone.html");
    let (en, ko) = script.split("    ko: {").next().zip(script.split("    ko: {").nth(1)).unwrap();
    let ko = ko.split("\n  };").next().unwrap();
    let has =
        |text: &str, key: &str| text.contains(&format!(" {key}: \"")) || text.contains(&format!(" {key}: ("));
    let mut keys = 0;
    for attribute in ["data-word=\"", "data-label=\""] {
        for part in html.split(attribute).skip(1) {
            let key = part.split('"').next().unwrap();
            assert!(has(en, key) && has(ko, key), "{key} lacks a translation");
            keys += 1;
        }
    }
    assert!(keys >= 15, "{keys} words found");
}

#[tokio::test(start_paused = true)]
async fn a_console_without_an_issuer_key_gives_out_nothing() {
    let shared = shared(None, None);
    let (_, text) = get(&shared, "/phone/status").await;
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, json!({ "enrolment": false, "now": START.0 }));
    let (status, said) = enrol(&shared, None, &request()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(said["error"].as_str().unwrap().contains("phone_issuer"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_phone_gets_a_pass_that_opens_the_gate() {
    let shared = shared(Some(issuer()), None);
    let (status, said) = enrol(&shared, None, &request()).await;
    assert_eq!((status, &said["now"]), (StatusCode::OK, &json!(START.0)));
    let certificate: [u8; 117] = from_hex(said["certificate"].as_str().unwrap()).unwrap();
    let code = Device::new(&SEED, Certificate(certificate)).show(START, 0);
    let grant = gate().check(START, true, code.as_bytes()).unwrap().grant;
    assert_eq!((grant.party, grant.staff, grant.age_proof, grant.guest), (1, false, false, false));
    let (_, again) = enrol(&shared, None, &request()).await;
    assert_ne!(said["certificate"], again["certificate"], "each certificate has its own pseudonym");
    let tomorrow = START.after(Millis::from_seconds(24 * 3600));
    let late = Device::new(&SEED, Certificate(certificate)).show(tomorrow, 0);
    let refused = gate().check(tomorrow, true, late.as_bytes()).err();
    assert_eq!(refused, Some(engine::message::DenyReason::Expired));
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_refused() {
    let shared = shared(Some(issuer()), Some("a token of some length"));
    let good = request();
    let token = Some("a token of some length");
    let table = [
        (None, good.clone(), StatusCode::UNAUTHORIZED, "authorization"),
        (Some("another token of length"), good.clone(), StatusCode::UNAUTHORIZED, "authorization"),
        (token, json!({}), StatusCode::UNPROCESSABLE_ENTITY, "public_key"),
        (token, json!({ "public_key": 5 }), StatusCode::UNPROCESSABLE_ENTITY, "public_key"),
        (token, json!({ "public_key": "02" }), StatusCode::UNPROCESSABLE_ENTITY, "public_key"),
        // No point of the curve has this x.
        (
            token,
            json!({ "public_key": format!("02{}", "01".repeat(32)) }),
            StatusCode::UNPROCESSABLE_ENTITY,
            "public_key",
        ),
        (token, json!({ "public_key": "04".repeat(33) }), StatusCode::UNPROCESSABLE_ENTITY, "public_key"),
        (token, json!({ "public_key": "x", "staff": true }), StatusCode::UNPROCESSABLE_ENTITY, "staff"),
        (token, good, StatusCode::OK, ""),
    ];
    for (token, body, want, field) in table {
        let (status, said) = enrol(&shared, token, &body).await;
        assert_eq!(status, want, "{body}: {said}");
        assert_eq!(said["field"].as_str().unwrap_or_default(), field, "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn passes_are_limited_by_the_hour() {
    let shared = shared(Some(issuer()), None);
    for _ in 0..ENROLMENTS_MAX {
        assert_eq!(enrol(&shared, None, &request()).await.0, StatusCode::OK);
    }
    assert_eq!(enrol(&shared, None, &request()).await.0, StatusCode::TOO_MANY_REQUESTS);
    tokio::time::advance(std::time::Duration::from_secs(3601)).await;
    assert_eq!(enrol(&shared, None, &request()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_issuer_key_of_no_use_stops_the_console() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("issuer.key");
    let seed = "ab".repeat(32);
    let good = format!("kind = \"issuer\"\nid = 1\nstore_group = 7\nseed = \"{seed}\"\n");
    let table = [
        (None, Some("No such file")),
        (Some(format!("seed = \"{seed}\"\nkind = 5")), Some("line 2")),
        (Some(good.replace("issuer", "root")), Some("kind must be")),
        (Some(good.replace("id = 1\n", "")), Some("id must be")),
        (Some(good.replace(&seed, "zz")), Some("64 hexadecimal")),
        (Some(good), None),
    ];
    for (text, want) in table {
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = ConsoleSettings { listen, token: None, phone_issuer: Some(path.clone()) };
        let bound = crate::Console::bind(&settings, map()).await;
        let Some(want) = want else {
            assert!(bound.is_ok());
            continue;
        };
        let mut text = String::new();
        let error = bound.err().expect("refused");
        let mut next: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = next {
            text.push_str(&format!("{error}: "));
            next = error.source();
        }
        assert!(text.contains(want) && text.contains("issuer.key") && !text.contains(&seed), "{text}");
    }
}

/// The page's own script makes a key, gets a pass, and shows codes; the gate takes them, and a decoder reads its QR
/// codes.
#[tokio::test]
async fn the_script_shows_codes_that_gates_take() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page/phone-code.js");
    let node = Command::new("node")
        .args(["-e", HARNESS, script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut node) = node else {
        return eprintln!("skipped: no node");
    };
    let mut input = node.stdin.take().unwrap();
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines().map(Result::unwrap);

    let shared = shared(Some(issuer()), None);
    let body = json!({ "public_key": lines.next().expect("a public key") });
    let (status, said) = enrol(&shared, None, &body).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    let mut gate = gate();
    writeln!(input, "{}", said["certificate"].as_str().unwrap()).unwrap();
    for at in [0, 3, 9_999, 10_000, 86_399_999] {
        let at = START.after(Millis(at));
        writeln!(input, "{}", at.0).unwrap();
        let digits = lines.next().expect("digits");
        let modules = lines.next().expect("modules");
        let judged = gate.check(at, true, digits.as_bytes());
        let grant = judged.unwrap_or_else(|reason| panic!("at {}: {reason:?}", at.0)).grant;
        gate.lapsed(grant.member, 1);
        assert_eq!(read_qr(&modules), digits);
    }
    drop(input);
    assert!(node.wait().unwrap().success());
}

/// First the public key; then, for a certificate and times line by line, digits and modules.
const HARNESS: &str = r#"
const code = require(process.argv[1]);
const subtle = globalThis.crypto.subtle;
const lines = require("readline").createInterface({ input: process.stdin })[Symbol.asyncIterator]();
(async () => {
  const pair = await subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign", "verify"]);
  console.log(code.toHex(code.compress(new Uint8Array(await subtle.exportKey("raw", pair.publicKey)))));
  const certificate = code.fromHex((await lines.next()).value);
  const terms = code.terms(certificate);
  if (terms.party !== 1 || terms.until - terms.from !== 86400000) process.exit(1);
  for (let line = await lines.next(); !line.done; line = await lines.next()) {
    const digits = await code.show(subtle, pair.privateKey, certificate, Number(line.value), 0);
    console.log(digits);
    console.log(code.qr(digits).map((row) => row.map((dark) => (dark ? "1" : "0")).join("")).join("/"));
  }
})();
"#;

fn read_qr(modules: &str) -> String {
    let rows: Vec<&[u8]> = modules.split('/').map(str::as_bytes).collect();
    let (scale, quiet) = (3, 4);
    let side = (rows.len() + 2 * quiet) * scale;
    let mut picture = vec![255_u8; side * side];
    for (at, pixel) in picture.iter_mut().enumerate() {
        let module = |at: usize| (at / scale).checked_sub(quiet);
        let dark = module(at / side)
            .zip(module(at % side))
            .and_then(|(y, x)| rows.get(y).and_then(|row| row.get(x)))
            .is_some_and(|module| *module == b'1');
        if dark {
            *pixel = 0;
        }
    }
    let side = side as u32;
    let view = zxingcpp::ImageView::from_slice(&picture, side, side, zxingcpp::ImageFormat::Lum).unwrap();
    let codes = zxingcpp::read().formats([zxingcpp::BarcodeFormat::QRCode]).from(view).unwrap();
    assert_eq!(codes.len(), 1, "one code is found");
    codes[0].text()
}
