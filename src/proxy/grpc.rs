//! What the gateway says by itself to clients that speak gRPC: they look for a status of their own, and make of others what
//! they can.

use http::header::{self, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::reply::{self, Refusal};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// What stands in a message as it is: printable ASCII but for the percent sign.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// A status of gRPC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Code {
    /// The deadline passed.
    DeadlineExceeded = 4,
    /// What the call is about is not there.
    NotFound = 5,
    /// The caller may not.
    PermissionDenied = 7,
    /// A limit is reached.
    ResourceExhausted = 8,
    /// There is no such service.
    Unimplemented = 12,
    /// The call is not framed as it must be.
    Internal = 13,
    /// Nobody is there to answer; clients may try again.
    Unavailable = 14,
}

impl Code {
    /// The one that says what a status of HTTP does.
    pub fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => Code::DeadlineExceeded,
            StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Code::ResourceExhausted,
            status if status.is_client_error() => Code::Internal,
            _ => Code::Unavailable,
        }
    }

    fn of_refusal(refusal: Refusal) -> Self {
        match refusal {
            Refusal::SessionGone => Code::NotFound,
            // Whatever status of HTTP the service gives it.
            Refusal::Maintenance => Code::Unavailable,
            refusal => Code::of(refusal.status()),
        }
    }
}

/// Whether a request is a call of gRPC, or of gRPC-Web.
pub fn is_call(headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    content.len() >= 16 && content[..16].eq_ignore_ascii_case(b"application/grpc")
}

/// The response to a refused call: all in its head, as a server of gRPC says that it has failed.
pub fn refuse(refusal: Refusal, exchange: Box<Exchange>) -> Response<ResponseBody> {
    let content = exchange.call().cloned();
    let mut response = reply::empty(StatusCode::OK, exchange);
    response.headers_mut().extend(status(Code::of_refusal(refusal), refusal.reason()));
    let content = content.unwrap_or(HeaderValue::from_static("application/grpc"));
    response.headers_mut().insert(header::CONTENT_TYPE, content);
    response
}

/// The trailers that tell the caller, who has the head of the answer, that the rest of it does not come; `None` where the
/// request is no call, or the client reads no trailers.
pub fn last_word(exchange: &Exchange, message: &str) -> Option<HeaderMap> {
    exchange.call().filter(|_| exchange.connection.is_stream()).map(|_| status(Code::Unavailable, message))
}

/// The fields by which a call ends, in a head or as trailers.
pub fn status(code: Code, message: &str) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(2);
    fields.insert(GRPC_STATUS, HeaderValue::from(code as u16));
    if let Ok(message) = HeaderValue::try_from(utf8_percent_encode(message, ENCODED).to_string()) {
        fields.insert(GRPC_MESSAGE, message);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(content: &'static str) -> bool {
        is_call(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content))]))
    }

    #[test]
    fn calls_are_known_by_their_content() {
        assert!(asked("application/grpc") && asked("application/grpc+proto") && asked("Application/gRPC-Web"));
        assert!(!asked("application/json") && !asked("application/grp") && !is_call(&HeaderMap::new()));
    }

    #[test]
    fn statuses_say_whether_to_try_again() {
        for (refusal, code) in [
            (Refusal::Unreachable, Code::Unavailable),
            (Refusal::Broken, Code::Unavailable),
            (Refusal::NotReady, Code::Unavailable),
            (Refusal::Maintenance, Code::Unavailable),
            (Refusal::Late, Code::DeadlineExceeded),
            (Refusal::BodyTooLarge, Code::ResourceExhausted),
            (Refusal::NoService, Code::Unimplemented),
            (Refusal::SessionGone, Code::NotFound),
            (Refusal::Target, Code::Internal),
        ] {
            assert_eq!(Code::of_refusal(refusal), code, "{refusal:?}");
        }
        let fields = status(Code::Unavailable, "100% näh\n");
        assert_eq!(
            (&fields["grpc-status"], &fields["grpc-message"]),
            (&HeaderValue::from_static("14"), &HeaderValue::from_static("100%25 n%C3%A4h%0A"),)
        );
    }
}
