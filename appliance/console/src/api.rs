//! The HTTP routes. Every route of the API carries its own description, so the OpenAPI document cannot miss
//! one.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::message::{StaffAnswer, StaffCallState, topic};
use engine::units::MessageId;
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use utoipa::{IntoParams, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::known::Change;
use crate::{Shared, guard, metrics, model, phone};

/// Largest request body; the largest honest one is some hundred bytes.
const BODY_MAX: usize = 16 * 1024;

#[derive(OpenApi)]
#[openapi(info(
    title = "Stile console",
    description = "The store as the box sees it. Reading needs no token: whoever reaches the address may \
                   read. Changes need the bearer token where one is set. Money is in minor units, times are \
                   milliseconds since the Unix epoch, lengths are metres."
))]
struct Document;

type Console = State<Arc<Shared>>;

/// The API, the staff page and the metrics, ready to serve.
pub fn router(shared: Arc<Shared>) -> axum::Router {
    let (api, document) = described().split_for_parts();
    let document = document.to_json().unwrap_or_default();
    let page = |kind: &'static str, text: &'static str| {
        let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
        get(move || async move { (headers, text) })
    };
    api.merge(phone::pages())
        .route("/", get(front))
        .route("/style.css", page("text/css; charset=utf-8", include_str!("page/style.css")))
        .route("/words.js", page("text/javascript; charset=utf-8", include_str!("page/words.js")))
        .route("/page.js", page("text/javascript; charset=utf-8", include_str!("page/page.js")))
        .layer(axum::Extension(Arc::<str>::from(document)))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .fallback(unknown)
        .layer(from_fn_with_state(Arc::clone(&shared), guard::check))
        .with_state(shared)
}

fn described() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(snapshot))
        .routes(routes!(events))
        .routes(routes!(floor))
        .routes(routes!(lanes))
        .routes(routes!(gate_events))
        .routes(routes!(order))
        .routes(routes!(sessions))
        .routes(routes!(receipts))
        .routes(routes!(reviews))
        .routes(routes!(decisions, decide))
        .routes(routes!(calls, answer))
        .routes(routes!(health))
        .routes(routes!(metrics_text))
        .routes(routes!(healthz))
        .routes(routes!(phone::status))
        .routes(routes!(phone::enrol))
        .routes(routes!(openapi))
}

async fn front() -> impl IntoResponse {
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                  img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, include_str!("page/index.html"))
}

async fn unknown() -> Response {
    problem(StatusCode::NOT_FOUND, None, "no such page; /openapi.json lists them".to_owned())
}

/// Everything at once.
#[utoipa::path(get, path = "/api/v1/snapshot", tag = "store",
    responses((status = 200, body = model::Snapshot)))]
async fn snapshot(State(shared): Console) -> Json<model::Snapshot> {
    Json(shared.snapshot())
}

/// Server-sent events: first `snapshot`, then `floor`, `lanes`, `sessions`, `reviews`, `receipts`,
/// `decisions`, `calls`, `health`, `gate_events` and `numbers` as they change; each carries that part of the
/// snapshot, whole.
#[utoipa::path(get, path = "/api/v1/events", tag = "store",
    responses((status = 200, content_type = "text/event-stream", body = String)))]
async fn events(State(shared): Console) -> impl IntoResponse {
    Sse::new(follow(shared)).keep_alive(KeepAlive::default())
}

/// Who is where.
#[utoipa::path(get, path = "/api/v1/floor", tag = "store",
    responses((status = 200, body = model::Floor)))]
async fn floor(State(shared): Console) -> Json<model::Floor> {
    Json(shared.known().floor())
}

/// Gate lanes.
#[utoipa::path(get, path = "/api/v1/lanes", tag = "store",
    responses((status = 200, body = [model::Lane])))]
async fn lanes(State(shared): Console) -> Json<Vec<model::Lane>> {
    Json(shared.known().lanes())
}

/// What gates reported and staff ordered, newest first, at most 100.
#[utoipa::path(get, path = "/api/v1/gate-events", tag = "gates",
    responses((status = 200, body = [model::GateEvent])))]
async fn gate_events(State(shared): Console) -> Json<Vec<model::GateEvent>> {
    Json(shared.known().gate_log.events())
}

/// Orders a lane to open for one person or to operate in another way. The answer carries the order's number and
/// says that it is on its way; the console repeats it until the lane answers, for 10 seconds at most, and the
/// gate event of that number then says what became of it.
#[utoipa::path(post, path = "/api/v1/lanes/{lane}/orders", tag = "gates",
    params(("lane" = String, Path, description = "The lane's name")), request_body = model::OrderRequest,
    responses((status = 202, body = model::GateEvent), (status = 401, body = model::Problem),
        (status = 403, body = model::Problem), (status = 415, body = model::Problem),
        (status = 422, body = model::Problem)))]
async fn order(State(shared): Console, Path(lane): Path<String>, body: Bytes) -> Response {
    let request: model::OrderRequest = match read(&body) {
        Ok(request) => request,
        Err(problem) => return (StatusCode::UNPROCESSABLE_ENTITY, Json(problem)).into_response(),
    };
    match shared.order(&lane, &request) {
        Ok(event) => (StatusCode::ACCEPTED, Json(event)).into_response(),
        Err(problem) => (StatusCode::UNPROCESSABLE_ENTITY, Json(problem)).into_response(),
    }
}

/// Visits with their carts.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "store",
    responses((status = 200, body = [model::Session])))]
async fn sessions(State(shared): Console) -> Json<Vec<model::Session>> {
    Json(shared.known().sessions())
}

/// How many receipts to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Page {
    /// At most this many, 1 to 100.
    limit: Option<usize>,
}

/// The newest receipts, newest first.
#[utoipa::path(get, path = "/api/v1/receipts", tag = "store", params(Page),
    responses((status = 200, body = [model::Receipt]), (status = 400, body = model::Problem)))]
async fn receipts(
    State(shared): Console,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let limit = match page {
        Ok(Query(page)) => page.limit.unwrap_or(100),
        Err(rejection) => {
            let error = format!("limit: {}", rejection.body_text());
            return problem(StatusCode::BAD_REQUEST, Some("limit"), error);
        }
    };
    if !(1..=100).contains(&limit) {
        return problem(StatusCode::BAD_REQUEST, Some("limit"), format!("limit: {limit} is not 1 to 100"));
    }
    Json(shared.known().receipts(limit)).into_response()
}

/// Shelf events that wait for a person, oldest first.
#[utoipa::path(get, path = "/api/v1/reviews", tag = "reviews",
    responses((status = 200, body = [model::Review])))]
async fn reviews(State(shared): Console) -> Json<Vec<model::Review>> {
    Json(shared.known().reviews())
}

/// This console's decisions and whether cartd has stored them, newest first.
#[utoipa::path(get, path = "/api/v1/decisions", tag = "reviews",
    responses((status = 200, body = [model::Decision])))]
async fn decisions(State(shared): Console) -> Json<Vec<model::Decision>> {
    Json(shared.known().decisions())
}

/// Decides a review. The answer says that it is on its way; it counts once `stored` is true, and until then
/// the console repeats it. Should the console die before, the review stays in the queue.
#[utoipa::path(post, path = "/api/v1/decisions", tag = "reviews", request_body = model::DecisionRequest,
    responses((status = 202, body = model::Decision), (status = 401, body = model::Problem),
        (status = 403, body = model::Problem), (status = 415, body = model::Problem),
        (status = 422, body = model::Problem)))]
async fn decide(State(shared): Console, body: Bytes) -> Response {
    let request: model::DecisionRequest = match read(&body) {
        Ok(request) => request,
        Err(problem) => return (StatusCode::UNPROCESSABLE_ENTITY, Json(problem)).into_response(),
    };
    match shared.decide(&request) {
        Ok(decision) => (StatusCode::ACCEPTED, Json(decision)).into_response(),
        Err(problem) => (StatusCode::UNPROCESSABLE_ENTITY, Json(problem)).into_response(),
    }
}

/// Staff calls: those open, and those closed in the last minute, oldest first.
#[utoipa::path(get, path = "/api/v1/staff-calls", tag = "staff",
    responses((status = 200, body = [model::Call])))]
async fn calls(State(shared): Console) -> Json<Vec<model::Call>> {
    let now = shared.clock.now();
    Json(shared.known().calls(now))
}

/// Tells the shopper who called how far help is.
#[utoipa::path(post, path = "/api/v1/staff-calls", tag = "staff", request_body = model::CallRequest,
    responses((status = 200, body = [model::Call]), (status = 401, body = model::Problem),
        (status = 403, body = model::Problem), (status = 415, body = model::Problem),
        (status = 422, body = model::Problem)))]
async fn answer(State(shared): Console, body: Bytes) -> Response {
    let request: model::CallRequest = match read(&body) {
        Ok(request) => request,
        Err(problem) => return (StatusCode::UNPROCESSABLE_ENTITY, Json(problem)).into_response(),
    };
    let state = match request.state {
        model::CallState::Seen => StaffCallState::Seen,
        model::CallState::Coming => StaffCallState::Coming,
        model::CallState::Closed => StaffCallState::Closed,
    };
    let now = shared.clock.now();
    let call = MessageId(request.call);
    if !shared.known().answer(now, &call, state) {
        let error = format!("call: no staff call {:?} is known", call.0);
        return problem(StatusCode::UNPROCESSABLE_ENTITY, Some("call"), error);
    }
    shared.bus.publish(topic::STAFF_ANSWER, &StaffAnswer { call, state });
    shared.tell(Change::Calls);
    Json(shared.known().calls(now)).into_response()
}

/// Devices and services.
#[utoipa::path(get, path = "/api/v1/health", tag = "store",
    responses((status = 200, body = [model::Health])))]
async fn health(State(shared): Console) -> Json<Vec<model::Health>> {
    Json(shared.known().health())
}

/// Metrics as OpenMetrics text, which Prometheus reads.
#[utoipa::path(get, path = "/metrics", tag = "machine",
    responses((status = 200, content_type = "application/openmetrics-text", body = String)))]
async fn metrics_text(State(shared): Console) -> Response {
    let now = shared.clock.now();
    let text = metrics::text(&shared.known(), now, shared.bus.connected());
    match text {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, None, error.to_string()),
    }
}

/// Whether the console serves. The store's own health is `/api/v1/health`.
#[utoipa::path(get, path = "/healthz", tag = "machine",
    responses((status = 200, body = String)))]
async fn healthz() -> &'static str {
    "ok"
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "machine",
    responses((status = 200, content_type = "application/json", body = String)))]
async fn openapi(axum::Extension(document): axum::Extension<Arc<str>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document.to_string())
}

pub(crate) fn problem(status: StatusCode, field: Option<&str>, error: String) -> Response {
    (status, Json(model::Problem { error, field: field.map(ToOwned::to_owned) })).into_response()
}

/// Reads a JSON body, and names the field that does not fit.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, model::Problem> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner().to_string();
        // At the top the message itself names the field ("missing field `by`"); "." would say nothing.
        let field = if path == "." { quoted(&cause).unwrap_or("body").to_owned() } else { path };
        model::Problem { error: format!("{field}: {cause}"), field: Some(field) }
    })?;
    reader
        .end()
        .map_err(|error| model::Problem { error: format!("body: {error}"), field: Some("body".into()) })?;
    Ok(value)
}

fn quoted(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

fn event<T: Serialize>(name: &str, value: &T) -> Event {
    let text = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    Event::default().event(name).data(text)
}

/// The parts of the picture that a change touches, as events.
fn parts(shared: &Shared, change: Change) -> Vec<Event> {
    let now = shared.clock.now();
    let known = shared.known();
    let numbers = || event("numbers", &known.numbers(now, shared.bus.connected()));
    match change {
        Change::Floor => vec![event("floor", &known.floor())],
        Change::Lanes => vec![event("lanes", &known.lanes())],
        Change::Store => {
            vec![event("sessions", &known.sessions()), event("reviews", &known.reviews()), numbers()]
        }
        Change::Receipts => vec![event("receipts", &known.receipts(100)), numbers()],
        Change::Health => vec![event("health", &known.health()), numbers()],
        Change::Calls => vec![event("calls", &known.calls(now)), numbers()],
        Change::Decisions => vec![event("decisions", &known.decisions())],
        Change::GateEvents => vec![event("gate_events", &known.gate_log.events())],
    }
}

fn follow(shared: Arc<Shared>) -> impl Stream<Item = Result<Event, Infallible>> {
    let changes = shared.changes.subscribe();
    let stop = shared.stop.clone();
    let first = vec![event("snapshot", &shared.snapshot())];
    unfold(
        (shared, changes, stop, first.into_iter()),
        |(shared, mut changes, mut stop, mut queue)| async move {
            loop {
                if let Some(event) = queue.next() {
                    return Some((Ok(event), (shared, changes, stop, queue)));
                }
                let change = tokio::select! {
                    change = changes.recv() => change,
                    _ = stop.wait_for(|stop| *stop) => return None,
                };
                queue = match change {
                    Ok(change) => parts(&shared, change).into_iter(),
                    // A slow reader missed some: the whole picture again.
                    Err(RecvError::Lagged(_)) => vec![event("snapshot", &shared.snapshot())].into_iter(),
                    Err(RecvError::Closed) => return None,
                };
            }
        },
    )
}
