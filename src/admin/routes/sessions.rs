//! Sessions: how many, and one of them by its id, which stands in the body and is never shown.

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;

use super::wanted::{Problems, Wanted};
use super::{Desk, granted};
use crate::admin::api::{Done, SessionCounts, SessionFound, SessionId};
use crate::admin::problem::problem;
use crate::ids::ServiceName;

/// How many sessions of a service are where, and how old.
#[utoipa::path(get, path = "/v1/services/{service}/sessions", tag = "sessions", params(("service" = String, Path, description = "Its name.")),
    responses((status = 200, description = "Counted some seconds ago at most.", body = SessionCounts), Problems))]
pub(super) async fn counts(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    granted(desk.source.sessions(ServiceName::new(&name)).await)
}

/// The open session of an id.
#[utoipa::path(post, path = "/v1/services/{service}/sessions/find", tag = "sessions", params(("service" = String, Path, description = "Its name.")),
    request_body = SessionId, responses((status = 200, description = "Where it is.", body = SessionFound), Problems))]
pub(super) async fn find(
    State(desk): State<Desk>,
    Path(name): Path<String>,
    Wanted(id): Wanted<SessionId>,
) -> Response {
    if !is_one(&id) {
        return none();
    }
    granted(desk.source.find(ServiceName::new(&name), id).await)
}

/// Ends the open session of an id. Its client's next request goes to the active generation.
#[utoipa::path(post, path = "/v1/services/{service}/sessions/end", tag = "sessions", params(("service" = String, Path, description = "Its name.")),
    request_body = SessionId, responses((status = 200, description = "It is closed.", body = Done), Problems))]
pub(super) async fn end(State(desk): State<Desk>, Path(name): Path<String>, Wanted(id): Wanted<SessionId>) -> Response {
    if !is_one(&id) {
        return none();
    }
    granted(desk.source.end(ServiceName::new(&name), id).await)
}

/// Whether a text is as long as an id can be.
fn is_one(id: &SessionId) -> bool {
    (1..=8_192).contains(&id.id.chars().count())
}

fn none() -> Response {
    problem(StatusCode::BAD_REQUEST, "An id has 1 to 8,192 characters.")
}
