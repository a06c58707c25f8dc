//! The answer of a service that forwards nothing: which backend it would be (design: `respond`), for clients that connect
//! to it by themselves, as those of pomelo's gate server do.

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, Uri, header};

use crate::config::model::{Address, Respond};
use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::{Exchange, Hold};
use crate::proxy::links;
use crate::proxy::outbound;
use crate::proxy::recorded;
use crate::proxy::reply::{self, Form, Refusal};
use crate::proxy::waiting;

/// Tells the client the public address of the backend that the exchange has been assigned to. No session opens by it.
pub async fn respond(mut exchange: Box<Exchange>, mut parts: Parts, form: Respond) -> Response<ResponseBody> {
    let accept = parts.headers.clone();
    let found = find(&mut exchange, &mut parts, form).await;
    // A session whose backend is down may have been given up.
    recorded::recorded(&mut exchange).await;
    match found {
        Ok(Place::Text(text)) => {
            let mut response = reply::own(StatusCode::OK, text, Form::Json, exchange);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Ok(Place::Location(location)) => {
            let mut response = reply::empty(StatusCode::TEMPORARY_REDIRECT, exchange);
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        Err(refusal) => reply::refuse(refusal, &accept, exchange),
    }
}

enum Place {
    Text(String),
    Location(HeaderValue),
}

async fn find(exchange: &mut Exchange, parts: &mut Parts, form: Respond) -> Result<Place, Refusal> {
    if matches!(exchange.hold, Hold::Pin(_))
        && exchange.backend().is_some_and(|own| exchange.snapshot.is_down(own.slot))
    {
        Box::pin(waiting::give_up(exchange)).await?;
    }
    let snapshot = exchange.snapshot.clone();
    let host = parts.headers.get(header::HOST).cloned();
    outbound::note_client(exchange, &mut parts.headers, host.as_ref(), &snapshot.gateway.trusted);
    let (Some(backend), Some(service)) = (exchange.backend(), exchange.service()) else {
        return Err(Refusal::NotReady);
    };
    let public = snapshot.public(backend.slot).unwrap_or(&backend.address);
    let Address::Tcp { host, port } = public else {
        tracing::warn!(
            generation = %backend.generation,
            backend = %backend.name,
            "clients cannot be sent to a unix socket; give the backend a `public` address"
        );
        return Err(Refusal::Hidden);
    };
    if form == Respond::Backend {
        let generation = backend.generation.number.0;
        return Ok(Place::Text(
            serde_json::json!({ "host": host, "port": port, "generation": generation }).to_string() + "\n",
        ));
    }
    // There it is as the backend itself knows it.
    let path = links::target_at(&service.rules, backend, &parts.uri)?;
    let scheme = if exchange.came_by_tls() { "https" } else { "http" };
    let location = Uri::builder().scheme(scheme).authority(public.to_string()).path_and_query(path).build();
    let location = location.map_err(|_| Refusal::Target)?;
    HeaderValue::try_from(location.to_string()).map(Place::Location).map_err(|_| Refusal::Target)
}
