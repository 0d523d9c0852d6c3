//! Who may talk to the console: the host name, the page's origin, and the bearer token.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::Shared;
use crate::model::Problem;

/// Refuses requests that a foreign web page may have caused.
///
/// On a loopback address the `Host` header must be a loopback name: a page elsewhere can point its own name at
/// 127.0.0.1 (DNS rebinding), and would then count as the same origin.
///
/// A change (any method but GET and HEAD) must come from our own page or from no page at all, must carry JSON, which
/// no web page may send across origins unasked, and must carry the token when one is set.
pub async fn check(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if shared.address.ip().is_loopback() && !loopback_host(headers) {
        return refuse(StatusCode::FORBIDDEN, "host", "host: not a name of this machine");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        if !same_origin(headers, shared.address) {
            return refuse(
                StatusCode::FORBIDDEN,
                "origin",
                "origin: another web page may not change anything",
            );
        }
        let json = text(headers, header::CONTENT_TYPE).is_some_and(|kind| {
            kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        });
        if !json {
            let error = "content-type: must be application/json";
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", error);
        }
        if let Some(token) = &shared.token
            && !bearer(headers).is_some_and(|given| same(given.as_bytes(), token.as_bytes()))
        {
            let error = "authorization: needs the console's bearer token";
            return refuse(StatusCode::UNAUTHORIZED, "authorization", error);
        }
    }
    next.run(request).await
}

fn refuse(status: StatusCode, field: &str, error: &str) -> Response {
    let problem = Problem { error: error.to_owned(), field: Some(field.to_owned()) };
    (status, Json(problem)).into_response()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn loopback_host(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, header::HOST) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    matches!(name, "localhost" | "127.0.0.1" | "::1")
}

fn same_origin(headers: &HeaderMap, address: SocketAddr) -> bool {
    if let Some(site) = headers.get("sec-fetch-site")
        && !matches!(site.as_bytes(), b"same-origin" | b"none")
    {
        return false;
    }
    let Some(origin) = text(headers, header::ORIGIN) else { return true };
    let fallback = address.to_string();
    let host = text(headers, header::HOST).unwrap_or(&fallback);
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    text(headers, header::AUTHORIZATION)?.strip_prefix("Bearer ")
}

/// Compares without telling by its time where the first difference is; the length is no secret.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}
