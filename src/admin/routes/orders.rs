//! What operators ask for.

use std::collections::VecDeque;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use tokio::sync::Mutex;

use super::shown::{id, no_number};
use super::wanted::{Optional, Problems, Wanted};
use super::{Desk, granted, stopping};
use crate::admin::api::{
    Denied, Done, Intent, Link, Login, Maintenance, Order, Reload, Reloaded, RetireOrder, ServiceOrder, Session,
};
use crate::admin::guard::Ends;
use crate::admin::problem::{problem, unusable};
use crate::ids::{BackendName, GenerationId, ServiceName};

/// Keys of rolls that are remembered, with their answers.
const KEYS: usize = 256;
/// Characters of such a key.
const KEY: usize = 255;

/// Rolls that were asked for with an `Idempotency-Key`: asked again, they are answered as they were, and nothing rolls.
#[derive(Default)]
pub(super) struct Repeats(Mutex<VecDeque<Repeat>>);

struct Repeat {
    service: ServiceName,
    key: String,
    answer: Result<Done, Denied>,
}

impl Repeats {
    /// Answers what was asked before with this key, or asks. One at a time, so that two of the same key are one.
    async fn once(
        &self,
        service: &ServiceName,
        key: &str,
        ask: impl Future<Output = Option<Result<Done, Denied>>>,
    ) -> Option<Result<Done, Denied>> {
        let mut known = self.0.lock().await;
        if let Some(repeat) = known.iter().find(|repeat| repeat.service == *service && repeat.key == key) {
            return Some(repeat.answer.clone());
        }
        let answer = ask.await?;
        if known.len() == KEYS {
            known.pop_front();
        }
        known.push_back(Repeat { service: service.clone(), key: key.to_owned(), answer: answer.clone() });
        Some(answer)
    }
}

/// Brings up the next generation of a service whose workers the gateway runs, or tries a failed one again.
///
/// It has only begun by the answer. A roll under way is waited for. Asked again with the same `Idempotency-Key`, it is
/// answered as before and does not roll again; keys are remembered until the gateway restarts, the last 256 of them.
#[utoipa::path(post, path = "/v1/services/{service}/roll", tag = "orders",
    params(("service" = String, Path, description = "Its name."),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$", description = "Any text of up to 255 characters, one for each deploy.")),
    responses((status = 200, description = "It has begun, or waits.", body = Done), Problems))]
pub(super) async fn roll(
    State(desk): State<Desk>,
    Extension(ends): Extension<Ends>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let service = ServiceName::new(&name);
    let order = ask(&desk, &ends, Order::Service(service.clone(), ServiceOrder::Roll));
    let Some(key) = headers.get("idempotency-key") else { return granted(order.await) };
    match key.to_str() {
        Ok(key) if (1..=KEY).contains(&key.len()) => granted(desk.repeats.once(&service, key, order).await),
        _ => problem(StatusCode::BAD_REQUEST, "An Idempotency-Key has 1 to 255 printable ASCII characters."),
    }
}

/// Makes the generation active that is ready beside the active one.
#[utoipa::path(post, path = "/v1/services/{service}/promote", tag = "orders", params(("service" = String, Path, description = "Its name.")),
    responses((status = 200, description = "It takes the new sessions.", body = Done), Problems))]
pub(super) async fn promote(
    State(desk): State<Desk>,
    Extension(ends): Extension<Ends>,
    Path(name): Path<String>,
) -> Response {
    granted(ask(&desk, &ends, Order::Service(ServiceName::new(&name), ServiceOrder::Promote)).await)
}

/// Makes the youngest generation active again that is older than the active one.
#[utoipa::path(post, path = "/v1/services/{service}/rollback", tag = "orders", params(("service" = String, Path, description = "Its name.")),
    responses((status = 200, description = "It takes the new sessions again.", body = Done), Problems))]
pub(super) async fn rollback(
    State(desk): State<Desk>,
    Extension(ends): Extension<Ends>,
    Path(name): Path<String>,
) -> Response {
    granted(ask(&desk, &ends, Order::Service(ServiceName::new(&name), ServiceOrder::Rollback)).await)
}

/// Has a service turn new sessions away, or take them again; open ones go on either way. It holds until the file says
/// something else of maintenance than it does now.
#[utoipa::path(post, path = "/v1/services/{service}/maintenance", tag = "orders", params(("service" = String, Path, description = "Its name.")),
    request_body = Maintenance, responses((status = 200, description = "It is so.", body = Done), Problems))]
pub(super) async fn maintenance(
    State(desk): State<Desk>,
    Extension(ends): Extension<Ends>,
    Path(name): Path<String>,
    Wanted(Maintenance { on }): Wanted<Maintenance>,
) -> Response {
    granted(ask(&desk, &ends, Order::Service(ServiceName::new(&name), ServiceOrder::Maintenance(on))).await)
}

/// Makes a generation active if it is the one that is ready beside the active one.
#[utoipa::path(post, path = "/v1/services/{service}/generations/{generation}/promote", tag = "orders",
    params(("service" = String, Path, description = "The service."), ("generation" = u64, Path, description = "Its number.")),
    responses((status = 200, description = "It takes the new sessions.", body = Done), Problems))]
pub(super) async fn promote_generation(
    State(desk): State<Desk>,
    Extension(ends): Extension<Ends>,
    Path(named): Path<(String, String)>,
) -> Response {
    of_generation(&desk, &ends, named, Order::Promote).await
}

/// Makes a detached generation active again.
#[utoipa::path(post, path = "/v1/services/{service}/generations/{generation}/rollback", tag = "orders",
    params(("service" = String, Path, description = "The service."), ("generation" = u64, Path, description = "Its number.")),
    responses((status = 200, description = "It takes the new sessions again.", body = Done), Problems))]
pub(super) async fn rollback_generation(
    State(desk): State<Desk>,
    Extension(ends): Extension<Ends>,
    Path(named): Path<(String, String)>,
) -> Response {
    of_generation(&desk, &ends, named, Order::Rollback).await
}

/// Gives up a generation that is starting, or aborts the ramp of one that is ready.
#[utoipa::path(post, path = "/v1/services/{service}/generations/{generation}/detach", tag = "orders",
    params(("service" = String, Path, description = "The service."), ("generation" = u64, Path, description = "Its number.")),
    responses((status = 200, description = "It takes no new sessions.", body = Done), Problems))]
pub(super) async fn detach(
    State(desk): State<Desk>,
    Extension(ends): Extension<Ends>,
    Path(named): Path<(String, String)>,
) -> Response {
    of_generation(&desk, &ends, named, Order::Detach).await
}

/// Retires a detached generation. It does so by itself when it is empty; with `now`, what is on it is ended.
#[utoipa::path(post, path = "/v1/services/{service}/generations/{generation}/retire", tag = "orders",
    params(("service" = String, Path, description = "The service."), ("generation" = u64, Path, description = "Its number.")),
    request_body(content = Option<RetireOrder>, description = "None for `now = false`."),
    responses((status = 200, description = "It is ending.", body = Done), Problems))]
pub(super) async fn retire(
    State(desk): State<Desk>,
    Extension(ends): Extension<Ends>,
    Path(named): Path<(String, String)>,
    Optional(RetireOrder { now }): Optional<RetireOrder>,
) -> Response {
    of_generation(&desk, &ends, named, |generation| Order::Retire { generation, now }).await
}

/// Lets a backend take sessions.
#[utoipa::path(post, path = "/v1/services/{service}/generations/{generation}/backends/{backend}/up", tag = "orders",
    params(("service" = String, Path, description = "The service."), ("generation" = u64, Path, description = "Its number."),
        ("backend" = String, Path, description = "The backend's name.")),
    responses((status = 200, description = "It takes sessions once it is ready.", body = Done), Problems))]
pub(super) async fn up(
    State(desk): State<Desk>,
    Extension(ends): Extension<Ends>,
    Path(named): Path<(String, String, String)>,
) -> Response {
    intend(&desk, &ends, named, Intent::Up, false).await
}

/// Gives a backend no new sessions; its own go on. It holds until the file says something else of it than it does now.
#[utoipa::path(post, path = "/v1/services/{service}/generations/{generation}/backends/{backend}/drain", tag = "orders",
    params(("service" = String, Path, description = "The service."), ("generation" = u64, Path, description = "Its number."),
        ("backend" = String, Path, description = "The backend's name.")),
    responses((status = 200, description = "It takes no new ones.", body = Done), Problems))]
pub(super) async fn drain(
    State(desk): State<Desk>,
    Extension(ends): Extension<Ends>,
    Path(named): Path<(String, String, String)>,
) -> Response {
    intend(&desk, &ends, named, Intent::Drain, false).await
}

/// Gives a backend nothing any more: its sessions are lost ones. Refused without `now` where it has some.
#[utoipa::path(post, path = "/v1/services/{service}/generations/{generation}/backends/{backend}/down", tag = "orders",
    params(("service" = String, Path, description = "The service."), ("generation" = u64, Path, description = "Its number."),
        ("backend" = String, Path, description = "The backend's name.")),
    request_body(content = Option<RetireOrder>, description = "None for `now = false`."),
    responses((status = 200, description = "It gets nothing.", body = Done), Problems))]
pub(super) async fn down(
    State(desk): State<Desk>,
    Extension(ends): Extension<Ends>,
    Path(named): Path<(String, String, String)>,
    Optional(RetireOrder { now }): Optional<RetireOrder>,
) -> Response {
    intend(&desk, &ends, named, Intent::Down, now).await
}

/// Reads the file again and applies it, as SIGHUP does; or says what that would do.
#[utoipa::path(post, path = "/v1/reload", tag = "orders", request_body(content = Option<Reload>, description = "None for `dry_run = false`."),
    responses((status = 200, description = "It is in force, or would be.", body = Reloaded), Problems))]
pub(super) async fn reload(
    State(desk): State<Desk>,
    Extension(ends): Extension<Ends>,
    Optional(Reload { dry_run }): Optional<Reload>,
) -> Response {
    if !dry_run {
        tracing::info!(by = %ends, "an operator asks for a reload");
    }
    match desk.source.reload(dry_run).await {
        Some(Ok(reloaded)) => Json::<Reloaded>(reloaded).into_response(),
        Some(Err(report)) => unusable(&report),
        None => stopping(),
    }
}

/// Makes a link that lets one browser in, once.
#[utoipa::path(post, path = "/v1/links", tag = "page", responses((status = 200, description = "Good for five minutes.", body = Link), Problems))]
pub(super) async fn link(State(desk): State<Desk>) -> Response {
    match desk.guard.link() {
        Some(link) => Json(link).into_response(),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "The system gives no random bytes."),
    }
}

/// Takes the code of a link for a token. Needs no token itself.
#[utoipa::path(post, path = "/v1/login", tag = "page", security(()), request_body = Login,
    responses((status = 200, description = "Good for twelve hours.", body = Session), Problems))]
pub(super) async fn login(State(desk): State<Desk>, Wanted(login): Wanted<Login>) -> Response {
    match desk.guard.login(&login.code) {
        Some(session) => Json(session).into_response(),
        None => problem(
            StatusCode::FORBIDDEN,
            "This link was used before, is too old, or was made before the gateway's last start. `tidegate open` makes another one.",
        ),
    }
}

async fn of_generation(
    desk: &Desk,
    ends: &Ends,
    (name, number): (String, String),
    order: impl FnOnce(GenerationId) -> Order,
) -> Response {
    match id(&name, &number) {
        Some(generation) => granted(ask(desk, ends, order(generation)).await),
        None => no_number(&number),
    }
}

async fn intend(
    desk: &Desk,
    ends: &Ends,
    (name, number, backend): (String, String, String),
    intent: Intent,
    now: bool,
) -> Response {
    let order = |generation| Order::Intend { generation, backend: BackendName::new(&backend), intent, now };
    of_generation(desk, ends, (name, number), order).await
}

/// Asks, and notes who did.
async fn ask(desk: &Desk, ends: &Ends, order: Order) -> Option<Result<Done, Denied>> {
    tracing::info!(by = %ends, "an operator asks to {order}");
    desk.source.order(order).await
}
