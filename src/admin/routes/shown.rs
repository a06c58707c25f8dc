//! What is shown.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::wanted::Problems;
use super::{Desk, granted, stopping};
use crate::admin::api::{Backend, Events, Generation, History, Output, Service, Services, Status};
use crate::admin::problem::problem;
use crate::ids::{BackendName, GenerationId, GenerationNumber, ServiceName};
use crate::metrics;

/// Whether the process lives. Loopback needs no token for it.
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, description = "It does.", body = String, content_type = "text/plain"), Problems))]
pub(super) async fn livez() -> Response {
    "alive\n".into_response()
}

/// Whether clients may be sent to the gateway. Loopback needs no token for it.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses(
    (status = 200, description = "They may.", body = String, content_type = "text/plain"),
    (status = 503, description = "They may not: it starts or stops.", body = String, content_type = "text/plain"),
    Problems
))]
pub(super) async fn readyz(State(desk): State<Desk>) -> Response {
    if desk.source.ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

/// Metrics in the text format of Prometheus, version 0.0.4. Loopback needs no token for them.
#[utoipa::path(get, path = "/metrics", tag = "health", security(()), responses((status = 200, description = "All of them.", body = String, content_type = "text/plain"), Problems))]
pub(super) async fn metrics(State(desk): State<Desk>) -> Response {
    let shown = |page: String| ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response();
    desk.source.metrics().await.map_or_else(stopping, shown)
}

/// Everything at one moment.
#[utoipa::path(get, path = "/v1/status", tag = "status", responses((status = 200, description = "Gateway and services.", body = Status), Problems))]
pub(super) async fn status(State(desk): State<Desk>) -> Response {
    desk.source.status().await.map_or_else(stopping, |status| Json(status).into_response())
}

/// All services.
#[utoipa::path(get, path = "/v1/services", tag = "status", responses((status = 200, description = "In the file's order.", body = Services), Problems))]
pub(super) async fn services(State(desk): State<Desk>) -> Response {
    let services = |status: Status| Json(Services { services: status.services }).into_response();
    desk.source.status().await.map_or_else(stopping, services)
}

/// One service.
#[utoipa::path(get, path = "/v1/services/{service}", tag = "status", params(("service" = String, Path, description = "Its name.")),
    responses((status = 200, description = "With its generations and backends.", body = Service), Problems))]
pub(super) async fn service(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    match find(&desk, &name).await {
        Ok(service) => Json(service).into_response(),
        Err(response) => response,
    }
}

/// One generation.
#[utoipa::path(get, path = "/v1/services/{service}/generations/{generation}", tag = "status",
    params(("service" = String, Path, description = "The service."), ("generation" = u64, Path, description = "Its number.")),
    responses((status = 200, description = "With its backends.", body = Generation), Problems))]
pub(super) async fn generation(State(desk): State<Desk>, Path((name, number)): Path<(String, String)>) -> Response {
    match find_generation(&desk, &name, &number).await {
        Ok(generation) => Json(generation).into_response(),
        Err(response) => response,
    }
}

/// One backend.
#[utoipa::path(get, path = "/v1/services/{service}/generations/{generation}/backends/{backend}", tag = "status",
    params(("service" = String, Path, description = "The service."), ("generation" = u64, Path, description = "Its number."),
        ("backend" = String, Path, description = "The backend's name.")),
    responses((status = 200, description = "With its worker.", body = Backend), Problems))]
pub(super) async fn backend(
    State(desk): State<Desk>,
    Path((name, number, backend)): Path<(String, String, String)>,
) -> Response {
    let generation = match find_generation(&desk, &name, &number).await {
        Ok(generation) => generation,
        Err(response) => return response,
    };
    match generation.backends.into_iter().find(|known| known.name.as_str() == backend) {
        Some(backend) => Json(backend).into_response(),
        None => problem(StatusCode::NOT_FOUND, &format!("There is no backend {backend} in {name}@{number}.")),
    }
}

/// The last lines that a worker printed.
#[utoipa::path(get, path = "/v1/services/{service}/generations/{generation}/backends/{backend}/output", tag = "status",
    params(("service" = String, Path, description = "The service."), ("generation" = u64, Path, description = "Its number."),
        ("backend" = String, Path, description = "The backend's name.")),
    responses((status = 200, description = "Oldest first.", body = Output), Problems))]
pub(super) async fn output(
    State(desk): State<Desk>,
    Path((name, number, backend)): Path<(String, String, String)>,
) -> Response {
    let Some(generation) = id(&name, &number) else { return no_number(&number) };
    let lines = desk.source.output(generation, BackendName::new(&backend)).await;
    granted(lines.map(|lines| lines.map(|lines| Output { lines })))
}

/// How many sessions a service had over the last hour.
#[utoipa::path(get, path = "/v1/services/{service}/history", tag = "status", params(("service" = String, Path, description = "Its name.")),
    responses((status = 200, description = "A point each 15 s, since the gateway's start at most.", body = History), Problems))]
pub(super) async fn history(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    match find(&desk, &name).await {
        Ok(service) => Json(desk.watched.history(&service.name)).into_response(),
        Err(response) => response,
    }
}

/// What happened in the last 24 hours.
#[utoipa::path(get, path = "/v1/events", tag = "status", responses((status = 200, description = "Oldest first; at most 1,000.", body = Events), Problems))]
pub(super) async fn events(State(desk): State<Desk>) -> Response {
    desk.source.events().await.map_or_else(stopping, |events| Json(Events { events }).into_response())
}

async fn find(desk: &Desk, name: &str) -> Result<Service, Response> {
    let status = desk.source.status().await.ok_or_else(stopping)?;
    status
        .services
        .into_iter()
        .find(|service| service.name.as_str() == name)
        .ok_or_else(|| problem(StatusCode::NOT_FOUND, "There is no service of this name; /v1/services lists them."))
}

async fn find_generation(desk: &Desk, name: &str, number: &str) -> Result<Generation, Response> {
    let Some(id) = id(name, number) else { return Err(no_number(number)) };
    let service = find(desk, name).await?;
    service.generations.into_iter().find(|generation| generation.number == id.number.0).ok_or_else(|| {
        problem(StatusCode::NOT_FOUND, &format!("There is no generation {id}; /v1/services/{name} lists them."))
    })
}

/// The generation that a path names.
pub(super) fn id(service: &str, number: &str) -> Option<GenerationId> {
    let number = number.parse().map(GenerationNumber).ok()?;
    Some(GenerationId { service: ServiceName::new(service), number })
}

pub(super) fn no_number(text: &str) -> Response {
    problem(StatusCode::NOT_FOUND, &format!("A generation is a number; {text:?} is none."))
}
