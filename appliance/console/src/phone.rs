//! The phone page: a real phone shows a real rotating code to a real gate. For demonstrations and tests only: whoever
//! may change things on the console may get a pass for a day, and only where the manifest names an issuer key.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::admission::issue::{Issuer, Terms};
use engine::admission::provision::{BadValue, KeyFile, from_hex, to_hex};
use engine::time::{Instant, Millis};
use engine::units::MemberHandle;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Shared;
use crate::api::{problem, read};

/// Passes given out within [`SPAN`]; a demonstration has some dozens of visitors.
const ENROLMENTS_MAX: usize = 200;
const SPAN: Millis = Millis::from_seconds(3600);
/// A pass lasts a day, in units of ten minutes.
const VALIDITY: u16 = 144;
/// Nothing else is loaded, and nobody else may show the page in a frame of theirs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Why the issuer key of the manifest is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read issuer key {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a key file; the source names line and key. It shows no secret.
    #[error("issuer key {path} is not valid: {what}")]
    Form {
        /// Which.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// A value does not fit.
    #[error("issuer key {path} is not valid")]
    Value {
        /// Which.
        path: PathBuf,
        /// Which key of it.
        #[source]
        source: BadValue,
    },
}

/// Gives out passes.
pub(crate) struct Enrolment {
    issuer: Issuer,
    given: Mutex<VecDeque<Instant>>,
}

/// Whether passes are given out here.
#[derive(Serialize, ToSchema)]
pub(crate) struct Status {
    /// False when the console has no issuer key.
    enrolment: bool,
    /// The store's time, milliseconds since the Unix epoch; a phone whose clock is off follows it.
    now: u64,
}

/// A phone asks for a pass.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// P-256 public key, compressed, 66 hexadecimal digits.
    public_key: String,
}

/// A pass.
#[derive(Serialize, ToSchema)]
pub(crate) struct Pass {
    /// The certificate, 117 bytes as hexadecimal digits.
    certificate: String,
    /// The store's time, milliseconds since the Unix epoch.
    now: u64,
}

impl Enrolment {
    /// Reads the issuer's key, a file of `stile-token keys new issuer`.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let path = path.to_owned();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(Error::Read { path, source }),
        };
        // The parser's own message would show the line, which may be the secret.
        let key: KeyFile = match toml::from_str(&text) {
            Ok(key) => key,
            Err(error) => {
                let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1;
                return Err(Error::Form { path, what: format!("line {line}: {}", error.message()) });
            }
        };
        let issuer = key.issuer().map_err(|source| Error::Value { path, source })?;
        Ok(Self { issuer, given: Mutex::default() })
    }

    /// A certificate for a day, or `None` when too many were given out within the hour.
    fn certify(&self, now: Instant, member: MemberHandle, device_key: &[u8; 33]) -> Option<Vec<u8>> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        while given.front().is_some_and(|at| *at <= now.before(SPAN)) {
            given.pop_front();
        }
        if given.len() >= ENROLMENTS_MAX {
            return None;
        }
        given.push_back(now);
        let terms = Terms { validity: VALIDITY, ..Terms::single(member, now) };
        Some(self.issuer.certify(&terms, device_key).0.to_vec())
    }
}

/// The page and its files.
pub(crate) fn pages() -> axum::Router<Arc<Shared>> {
    let script = "text/javascript; charset=utf-8";
    let page = |kind: &'static str, text: &'static str| {
        let headers = [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        get(move || async move { (headers, text) })
    };
    axum::Router::new()
        .route("/phone", page("text/html; charset=utf-8", include_str!("page/phone.html")))
        .route("/phone.css", page("text/css; charset=utf-8", include_str!("page/phone.css")))
        .route("/phone.js", page(script, include_str!("page/phone.js")))
        .route("/phone-code.js", page(script, include_str!("page/phone-code.js")))
        .route("/phone-worker.js", page(script, include_str!("page/phone-worker.js")))
}

/// Whether the phone page can get a pass here.
#[utoipa::path(get, path = "/phone/status", tag = "phone", responses((status = 200, body = Status)))]
pub(crate) async fn status(State(shared): State<Arc<Shared>>) -> Json<Status> {
    Json(Status { enrolment: shared.phone.is_some(), now: shared.clock.now().0 })
}

/// Certifies a phone's key for a day: a pass for one person, under a new pseudonym.
#[utoipa::path(post, path = "/phone/enrol", tag = "phone", request_body = Request,
    responses((status = 200, body = Pass), (status = 401, body = crate::model::Problem),
        (status = 403, body = crate::model::Problem), (status = 404, body = crate::model::Problem),
        (status = 422, body = crate::model::Problem), (status = 429, body = crate::model::Problem)))]
pub(crate) async fn enrol(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let Some(enrolment) = &shared.phone else {
        let error = "this console has no issuer key (phone_issuer in the manifest's console section)";
        return problem(StatusCode::NOT_FOUND, None, error.to_owned());
    };
    let request: Request = match read(&body) {
        Ok(request) => request,
        Err(problem) => return (StatusCode::UNPROCESSABLE_ENTITY, Json(problem)).into_response(),
    };
    let Some(key) = from_hex::<33>(&request.public_key).filter(is_point) else {
        let error = "public_key: not a compressed P-256 point as 66 hexadecimal digits".to_owned();
        return problem(StatusCode::UNPROCESSABLE_ENTITY, Some("public_key"), error);
    };
    let mut handle = [0; 8];
    if SystemRandom::new().fill(&mut handle).is_err() {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, None, "no random bytes".to_owned());
    }
    let member = MemberHandle(u64::from_be_bytes(handle));
    let now = shared.clock.now();
    match enrolment.certify(now, member, &key) {
        Some(certificate) => {
            tracing::info!(member = format!("{:016x}", member.0), "demonstration pass given out");
            Json(Pass { certificate: to_hex(&certificate), now: now.0 }).into_response()
        }
        None => {
            let error = format!("{ENROLMENTS_MAX} passes were given out within the hour");
            problem(StatusCode::TOO_MANY_REQUESTS, None, error)
        }
    }
}

/// Whether the bytes are a point of the curve; a pass for anything else would never open.
fn is_point(bytes: &[u8; 33]) -> bool {
    engine::admission::pass::is_device_key(bytes)
}

#[cfg(test)]
mod tests;
