//! What bodies of requests hold, and which problems any answer can be.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request};
use axum::response::Response;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response as Described, ResponseBuilder};

use crate::admin::guard::BODY;
use crate::admin::problem::problem;

/// The JSON of a body.
pub(super) struct Wanted<T>(pub(super) T);

/// The same, where no body at all stands for the default.
pub(super) struct Optional<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Wanted<T> {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        match read(request).await? {
            Some(value) => Ok(Self(value)),
            None => Err(problem(StatusCode::BAD_REQUEST, "This needs a JSON object as its body.")),
        }
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Optional<T> {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        Ok(Self(read(request).await?.unwrap_or_default()))
    }
}

async fn read<T: DeserializeOwned>(request: Request) -> Result<Option<T>, Response> {
    let is_json = request.headers().get(CONTENT_TYPE).map(|kind| {
        let kind = kind.to_str().unwrap_or_default();
        kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
    });
    let limit = usize::try_from(BODY).unwrap_or(usize::MAX);
    let body = Limited::new(request.into_body(), limit).collect().await;
    // Who announced more was told before; this one announced nothing, or left.
    let body =
        body.map_err(|_| problem(StatusCode::PAYLOAD_TOO_LARGE, "A request's body may have 64 KiB."))?.to_bytes();
    let text = body.trim_ascii();
    if body.is_empty() || (is_json == Some(true) && text == b"null") {
        return Ok(None);
    }
    if is_json != Some(true) {
        let why = "The body has to be JSON, and say so: Content-Type: application/json.";
        return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    // A list would be taken as well, its parts for those of the object in their order.
    if text.first() != Some(&b'{') {
        return Err(problem(StatusCode::BAD_REQUEST, "The body has to be a JSON object."));
    }
    // The error names what it met, which may be a secret; where it stands is enough.
    serde_json::from_slice(&body).map(Some).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = match error.classify() {
            serde_json::error::Category::Data => "is not what is asked for here; /v1/openapi.json describes it",
            _ => "is no JSON",
        };
        problem(StatusCode::BAD_REQUEST, &format!("The body {what} (line {line}, column {column})."))
    })
}

/// The problems that each route can answer with.
pub(super) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        let all = [
            ("400", "The request cannot be understood."),
            ("401", "The token is missing or wrong."),
            ("403", "Asked under another name, by a page of another site, or with a link that is not good."),
            ("404", "There is no such thing."),
            ("405", "Another method is meant."),
            ("409", "Its state does not allow it, or it would end what is under way; nothing has changed."),
            ("413", "The body is too large."),
            ("415", "The body is not JSON."),
            ("422", "The configuration file cannot be used; nothing has changed."),
            ("429", "As many streams are open as may be."),
            ("503", "The gateway is stopping."),
        ];
        let described = |text: &str| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            ResponseBuilder::new().description(text).content("application/problem+json", content).build()
        };
        all.into_iter().map(|(status, text)| (status.to_owned(), RefOr::T(described(text)))).collect()
    }
}
