//! The routes, and the description of the API that is made from them.

mod changes;
mod orders;
mod sessions;
mod shown;
mod wanted;

use std::pin::Pin;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use axum::{Json, Router, middleware};
use http::StatusCode;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::orders::Repeats;
use crate::admin::api::{
    Denied, Done, Event, Order, Problem, Reloaded, SessionCounts, SessionFound, SessionId, Status,
};
use crate::admin::guard::{self, Guard};
use crate::admin::page;
use crate::admin::problem::problem;
use crate::admin::watcher::Watched;
use crate::ids::{BackendName, GenerationId, ServiceName};

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
    /// Reads the file again and applies it, or says what that would do.
    ///
    /// # Errors
    /// The report on what is wrong with the file; nothing has changed.
    fn reload(&self, dry_run: bool) -> Answer<'_, Result<Reloaded, String>>;
    /// The last lines that the worker of a backend printed.
    ///
    /// # Errors
    /// There is no such backend, or the gateway does not run it.
    fn output(&self, generation: GenerationId, backend: BackendName) -> Answer<'_, Result<Vec<String>, Denied>>;
    /// How many sessions of a service are where, and how old.
    ///
    /// # Errors
    /// There is no such service.
    fn sessions(&self, service: ServiceName) -> Answer<'_, Result<SessionCounts, Denied>>;
    /// The open session of an id.
    ///
    /// # Errors
    /// There is no such service, or no such session.
    fn find(&self, service: ServiceName, id: SessionId) -> Answer<'_, Result<SessionFound, Denied>>;
    /// Ends the open session of an id.
    ///
    /// # Errors
    /// There is no such service, or no such session.
    fn end(&self, service: ServiceName, id: SessionId) -> Answer<'_, Result<Done, Denied>>;
}

/// What every route has at hand.
#[derive(Clone)]
pub(super) struct Desk {
    source: Arc<dyn Source>,
    guard: Arc<Guard>,
    watched: Watched,
    repeats: Arc<Repeats>,
}

impl Desk {
    pub(super) fn new(source: Arc<dyn Source>, guard: Arc<Guard>, watched: Watched) -> Self {
        Self { source, guard, watched, repeats: Arc::default() }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate admin API",
        description = "What an operator sees of a gateway, and what he asks of it.",
        license(name = "MIT"),
        contact()
    ),
    components(schemas(Problem)),
    security(("token" = []))
)]
struct Description;

/// The API's description in the form of OpenAPI 3.1.
fn described() -> OpenApiRouter<Desk> {
    let mut description = Description::openapi();
    description.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "The token of the state directory's file admin-token, or the one that a one-time link gave.",
    ));
    if let Some(components) = &mut description.components {
        components.add_security_scheme("token", SecurityScheme::Http(bearer.build()));
    }
    OpenApiRouter::with_openapi(description)
        .routes(routes!(shown::livez))
        .routes(routes!(shown::readyz))
        .routes(routes!(shown::metrics))
        .routes(routes!(shown::status))
        .routes(routes!(shown::services))
        .routes(routes!(shown::service))
        .routes(routes!(shown::generation))
        .routes(routes!(shown::backend))
        .routes(routes!(shown::output))
        .routes(routes!(shown::history))
        .routes(routes!(shown::events))
        .routes(routes!(changes::changes))
        .routes(routes!(sessions::counts))
        .routes(routes!(sessions::find))
        .routes(routes!(sessions::end))
        .routes(routes!(orders::roll))
        .routes(routes!(orders::promote))
        .routes(routes!(orders::rollback))
        .routes(routes!(orders::maintenance))
        .routes(routes!(orders::promote_generation))
        .routes(routes!(orders::rollback_generation))
        .routes(routes!(orders::detach))
        .routes(routes!(orders::retire))
        .routes(routes!(orders::up))
        .routes(routes!(orders::drain))
        .routes(routes!(orders::down))
        .routes(routes!(orders::reload))
        .routes(routes!(orders::link))
        .routes(routes!(orders::login))
}

pub(super) fn router(desk: Desk) -> Router {
    let guard = Arc::clone(&desk.guard);
    let (router, description) = described().split_for_parts();
    let description = Arc::new(description);
    router
        .route("/v1/openapi.json", axum::routing::get(async move || Json(description).into_response()))
        .merge(page::router())
        .fallback(async || problem(StatusCode::NOT_FOUND, "There is nothing here; the API begins at /v1/status."))
        .method_not_allowed_fallback(async || {
            problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "What is shown is read by GET, what changes something is done by POST.",
            )
        })
        .layer(middleware::from_fn_with_state(guard, guard::check))
        .with_state(desk)
}

fn stopping() -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "The gateway is stopping.")
}

/// Answers what was granted, or why it was not.
fn granted<T: serde::Serialize>(answer: Option<Result<T, Denied>>) -> Response {
    match answer {
        Some(Ok(done)) => Json(done).into_response(),
        Some(Err(denied)) => refused(denied),
        None => stopping(),
    }
}

fn refused(denied: Denied) -> Response {
    match denied {
        Denied::Unknown(why) => problem(StatusCode::NOT_FOUND, &why),
        Denied::NotNow(why) => problem(StatusCode::CONFLICT, &why),
        Denied::Costs(why, cost) => crate::admin::problem::costly(&why, cost),
    }
}
