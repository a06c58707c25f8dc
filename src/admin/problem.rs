//! Errors as answers (RFC 9457).

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::admin::api::{Cost, Problem};

/// An answer with this status, saying what happened and what to do.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    answer(status, blank(status, detail))
}

/// 409: it would end this.
pub(super) fn costly(detail: &str, cost: Cost) -> Response {
    let status = StatusCode::CONFLICT;
    answer(status, Problem { cost: Some(cost), ..blank(status, detail) })
}

/// 422: the configuration file cannot be used.
pub(super) fn unusable(report: &str) -> Response {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let first = report.lines().find(|line| !line.trim().is_empty()).unwrap_or("The file cannot be used.");
    answer(status, Problem { report: Some(report.to_owned()), ..blank(status, first) })
}

/// 401 with the challenge that RFC 6750 section 3 asks for.
pub(super) fn unauthorized(challenge: &'static str, detail: &str) -> Response {
    let mut response = problem(StatusCode::UNAUTHORIZED, detail);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

fn blank(status: StatusCode, detail: &str) -> Problem {
    Problem {
        kind: "about:blank".to_owned(),
        title: status.canonical_reason().unwrap_or("Error").to_owned(),
        status: status.as_u16(),
        detail: detail.to_owned(),
        cost: None,
        report: None,
    }
}

fn answer(status: StatusCode, body: Problem) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
