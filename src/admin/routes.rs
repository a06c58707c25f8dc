//! The routes.

use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use http::StatusCode;
use http::header::CONTENT_TYPE;

use crate::admin::api::{Denied, Done, Event, Events, Order, Services, Status, Token};
use crate::admin::guard;
use crate::admin::problem::problem;
use crate::ids::{GenerationId, GenerationNumber, ServiceName};
use crate::metrics;

/// An answer that is on its way; `None` when the gateway is stopping and nobody is left to ask.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Option<T>> + Send + 'a>>;

/// Where the API takes its answers from. Called on the thread that serves the API: it must not block.
pub trait Source: Send + Sync + 'static {
    /// Everything at this moment.
    fn status(&self) -> Answer<'_, Status>;
    /// The page for Prometheus.
    fn metrics(&self) -> Answer<'_, String>;
    /// The last events, oldest first.
    fn events(&self) -> Answer<'_, Vec<Event>>;
    /// Whether clients may be sent here: it serves, and is not about to stop.
    fn ready(&self) -> bool;
    /// Does what an operator asks for.
    fn order(&self, order: Order) -> Answer<'_, Result<Done, Denied>>;
}

type Asked = State<Arc<dyn Source>>;

pub(super) fn router(source: Arc<dyn Source>, token: Arc<Token>) -> Router {
    Router::new()
        .route("/livez", get("alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/services", get(services))
        .route("/v1/services/{name}", get(service))
        .route("/v1/services/{name}/promote", post(promote))
        .route("/v1/services/{name}/roll", post(roll))
        .route("/v1/services/{name}/rollback", post(rollback))
        .route("/v1/services/{name}/generations/{number}/{verb}", post(act))
        .route("/v1/events", get(events))
        .fallback(async || problem(StatusCode::NOT_FOUND, "There is nothing here; the API begins at /v1/status."))
        .method_not_allowed_fallback(async || {
            problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "What is shown is read by GET, what changes something is done by POST.",
            )
        })
        .layer(middleware::from_fn_with_state(token, guard::check))
        .with_state(source)
}

async fn readyz(State(source): Asked) -> Response {
    if source.ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn metrics(State(source): Asked) -> Response {
    source.metrics().await.map_or_else(stopping, |page| ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response())
}

async fn status(State(source): Asked) -> Response {
    source.status().await.map_or_else(stopping, |status| Json(status).into_response())
}

async fn services(State(source): Asked) -> Response {
    let services = |status: Status| Json(Services { services: status.services }).into_response();
    source.status().await.map_or_else(stopping, services)
}

async fn service(State(source): Asked, Path(name): Path<String>) -> Response {
    let Some(status) = source.status().await else { return stopping() };
    match status.services.into_iter().find(|service| service.name.as_str() == name) {
        Some(service) => Json(service).into_response(),
        None => problem(StatusCode::NOT_FOUND, "There is no service of this name; /v1/services lists them."),
    }
}

async fn events(State(source): Asked) -> Response {
    source.events().await.map_or_else(stopping, |events| Json(Events { events }).into_response())
}

async fn promote(State(source): Asked, Path(name): Path<String>) -> Response {
    order(&*source, Order::Promote { service: ServiceName::new(&name), generation: None }).await
}

async fn roll(State(source): Asked, Path(name): Path<String>) -> Response {
    order(&*source, Order::Roll(ServiceName::new(&name))).await
}

async fn rollback(State(source): Asked, Path(name): Path<String>) -> Response {
    order(&*source, Order::Rollback { service: ServiceName::new(&name), generation: None }).await
}

async fn act(State(source): Asked, Path((name, number, verb)): Path<(String, String, String)>) -> Response {
    let (service, number) = (ServiceName::new(&name), number.parse().map(GenerationNumber));
    let wanted = match (number, verb.as_str()) {
        (Ok(number), "promote") => Order::Promote { service, generation: Some(number) },
        (Ok(number), "rollback") => Order::Rollback { service, generation: Some(number) },
        (Ok(number), "detach") => Order::Detach(GenerationId { service, number }),
        _ => {
            let why = "A generation is a number, and can be asked to promote, rollback or detach.";
            return problem(StatusCode::NOT_FOUND, why);
        }
    };
    order(&*source, wanted).await
}

async fn order(source: &dyn Source, order: Order) -> Response {
    match source.order(order).await {
        Some(Ok(done)) => Json(done).into_response(),
        Some(Err(Denied::Unknown(why))) => problem(StatusCode::NOT_FOUND, &why),
        Some(Err(Denied::NotNow(why))) => problem(StatusCode::CONFLICT, &why),
        None => stopping(),
    }
}

fn stopping() -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "The gateway is stopping.")
}
