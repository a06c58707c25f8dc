//! The switch: a client ends its own session to move to the newest generation, and goes on where it was.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};

use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::lost::farewell;
use crate::proxy::recorded;
use crate::proxy::reply::{self, Refusal};
use crate::session::table::Closing;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Ends the session of the request and sends the client to the path that the query names (`?to=/cart`), or to `/`.
///
/// `host` is the request's, in lower case and without a port.
pub async fn switch(mut exchange: Box<Exchange>, parts: &Parts, host: &str) -> Response<ResponseBody> {
    if parts.method != Method::POST {
        let mut response = reply::refuse(Refusal::SwitchMethod, &parts.headers, exchange);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    if !is_same_origin(&parts.headers, host) {
        return reply::refuse(Refusal::SwitchOrigin, &parts.headers, exchange);
    }
    let Some(target) = target(parts.uri.query()) else {
        return reply::refuse(Refusal::SwitchTarget, &parts.headers, exchange);
    };
    let deletions = farewell(&mut exchange, Closing::Switched);
    recorded::recorded(&mut exchange).await;
    let mut response = reply::empty(StatusCode::SEE_OTHER, exchange);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, target);
    for deletion in deletions {
        headers.append(header::SET_COOKIE, deletion);
    }
    response
}

/// Whether a page of this very host asks. Browsers say so by Sec-Fetch-Site (W3C Fetch Metadata), older ones by Origin
/// (RFC 6454 section 7); who says neither is not believed.
fn is_same_origin(headers: &HeaderMap, host: &str) -> bool {
    if let Some(site) = headers.get(&FETCH_SITE) {
        return site.as_bytes() == b"same-origin";
    }
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let origin = origin.and_then(|origin| origin.parse::<Uri>().ok());
    let field = headers.get(header::HOST).and_then(|field| field.to_str().ok());
    origin.is_some_and(|origin| {
        // The port counts: another port of a host is another origin.
        let is_host = origin.host().is_some_and(|name| name.eq_ignore_ascii_case(host));
        let port =
            field.and_then(|field| field.parse::<http::uri::Authority>().ok()).and_then(|field| field.port_u16());
        is_host && (origin.port_u16() == port || is_default(&origin, port))
    })
}

/// Whether an origin without a port means the port that the request names.
fn is_default(origin: &Uri, port: Option<u16>) -> bool {
    let default = if origin.scheme_str() == Some("https") { 443 } else { 80 };
    origin.port_u16().unwrap_or(default) == port.unwrap_or(default)
}

/// Where the client goes next: a path of this host, never another place.
fn target(query: Option<&str>) -> Option<HeaderValue> {
    let named = query.unwrap_or("").split('&').find_map(|pair| pair.strip_prefix("to="));
    let Some(named) = named else { return Some(HeaderValue::from_static("/")) };
    let decoded = percent_encoding::percent_decode_str(named).decode_utf8().ok()?;
    let is_path = decoded.starts_with('/')
        && !decoded.starts_with("//")
        && !decoded.contains(|c: char| c == '\\' || c.is_control() || c == ' ')
        && decoded.is_ascii();
    // Browsers take `/\host` and `/%09/host` for another host once they have been decoded; no such path is passed on.
    is_path.then(|| HeaderValue::from_str(&decoded).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_host_are_targets() {
        for (query, expected) in [
            (None, Some("/")),
            (Some("to=/cart"), Some("/cart")),
            (Some("x=1&to=%2Fcart%3Fa%3D1"), Some("/cart?a=1")),
            (Some("to=//evil.example"), None),
            (Some("to=%2F%2Fevil.example"), None),
            (Some("to=/%5Cevil.example"), None),
            (Some("to=https://evil.example/"), None),
            (Some("to=cart"), None),
            (Some("to="), None),
            (Some("to=/%0d%0aSet-Cookie:x"), None),
            (Some("to=/%09/evil.example"), None),
        ] {
            let found = target(query);
            assert_eq!(found.as_ref().and_then(|value| value.to_str().ok()), expected, "{query:?}");
        }
    }

    #[test]
    fn only_pages_of_this_host_may_ask() {
        for (fields, expected) in [
            (&[][..], false),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://shop.example")], false),
            (&[("origin", "http://shop.example:8080"), ("host", "shop.example:8080")], true),
            (&[("origin", "http://shop.example"), ("host", "shop.example")], true),
            (&[("origin", "http://shop.example"), ("host", "shop.example:80")], true),
            (&[("origin", "http://shop.example"), ("host", "shop.example:8080")], false),
            (&[("origin", "http://evil.example"), ("host", "shop.example")], false),
            (&[("origin", "null"), ("host", "shop.example")], false),
        ] {
            let headers: HeaderMap = fields
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(is_same_origin(&headers, "shop.example"), expected, "{fields:?}");
        }
    }
}
