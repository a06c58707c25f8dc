//! One connection of plain TCP as one line.

use std::net::IpAddr;

use super::{AGENT, NAME, address, bounded, json_origin, word};
use crate::log::escape;
use crate::log::stamp::Stamp;

/// A connection of a service whose mode is `tcp`, as its line shows it at its end.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// When it ended: milliseconds of wall time since 1970.
    pub wall_ms: u64,
    /// Who came.
    pub client: IpAddr,
    /// The service.
    pub service: &'a str,
    /// The generation that served it.
    pub generation: Option<u64>,
    /// The backend's name.
    pub backend: Option<&'a str>,
    /// How it went, by the status that HTTP would have for it: 200 when it was served, 502 when no backend could be
    /// reached, 503 when it was turned away.
    pub status: u16,
    /// Bytes that the client sent.
    pub request_bytes: u64,
    /// Bytes that the backend sent.
    pub response_bytes: u64,
    /// From the client's connect to the end, in microseconds.
    pub duration_us: u64,
    /// Why it ended.
    pub reason: &'a str,
}

/// Appends the connection as one JSON object and a line feed. What it has in common with an exchange has the same keys.
pub(in crate::log) fn json(out: &mut Vec<u8>, stamp: &mut Stamp, connection: &Connection<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    stamp.rfc3339(out, connection.wall_ms);
    out.extend_from_slice(b"\",\"client\":\"");
    address(out, connection.client);
    out.extend_from_slice(b"\",\"mode\":\"tcp\",\"status\":");
    escape::decimal(out, u64::from(connection.status));
    out.extend_from_slice(b",\"request_bytes\":");
    escape::decimal(out, connection.request_bytes);
    out.extend_from_slice(b",\"response_bytes\":");
    escape::decimal(out, connection.response_bytes);
    out.extend_from_slice(b",\"duration_us\":");
    escape::decimal(out, connection.duration_us);
    out.extend_from_slice(b",\"service\":\"");
    bounded(out, connection.service.as_bytes(), NAME, escape::json);
    out.push(b'"');
    json_origin(out, connection.generation, connection.backend);
    out.extend_from_slice(b",\"reason\":\"");
    bounded(out, connection.reason.as_bytes(), AGENT, escape::json);
    out.extend_from_slice(b"\"}\n");
}

/// Appends the connection in Apache's combined format, as a request by the method `TCP`, so that what reads such logs
/// reads it as well; behind it `key=value` pairs, and a line feed.
pub(in crate::log) fn combined(out: &mut Vec<u8>, stamp: &mut Stamp, connection: &Connection<'_>) {
    address(out, connection.client);
    out.extend_from_slice(b" - - [");
    stamp.common(out, connection.wall_ms);
    out.extend_from_slice(b"] \"TCP - TCP\" ");
    escape::decimal(out, u64::from(connection.status));
    out.push(b' ');
    escape::decimal(out, connection.response_bytes);
    out.extend_from_slice(b" \"-\" \"-\" mode=tcp service=");
    word(out, connection.service);
    out.extend_from_slice(b" generation=");
    match connection.generation {
        Some(generation) => escape::decimal(out, generation),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b" backend=");
    word(out, connection.backend.unwrap_or_default());
    out.extend_from_slice(b" duration_us=");
    escape::decimal(out, connection.duration_us);
    out.extend_from_slice(b" request_bytes=");
    escape::decimal(out, connection.request_bytes);
    out.extend_from_slice(b" reason=\"");
    bounded(out, connection.reason.as_bytes(), AGENT, escape::combined);
    out.extend_from_slice(b"\"\n");
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::{Value, json};

    use super::*;

    fn sample<'a>() -> Connection<'a> {
        Connection {
            wall_ms: 1_795_237_800_123,
            client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
            service: "chat",
            generation: Some(7),
            backend: Some("127.0.0.1:3150"),
            status: 200,
            request_bytes: 12,
            response_bytes: 5_120,
            duration_us: 1_234,
            reason: "the client closed",
        }
    }

    fn write(connection: &Connection<'_>, format: fn(&mut Vec<u8>, &mut Stamp, &Connection<'_>)) -> String {
        let mut out = Vec::new();
        format(&mut out, &mut Stamp::new(), connection);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_format_shows_everything() {
        assert_eq!(
            serde_json::from_str::<Value>(&write(&sample(), super::json)).unwrap(),
            json!({
                "time": "2026-11-21T05:10:00.123Z", "client": "192.0.2.7", "mode": "tcp", "status": 200,
                "request_bytes": 12, "response_bytes": 5_120, "duration_us": 1_234, "service": "chat", "generation": 7,
                "backend": "127.0.0.1:3150", "reason": "the client closed",
            })
        );
        assert_eq!(
            write(&sample(), combined),
            "192.0.2.7 - - [21/Nov/2026:05:10:00 +0000] \"TCP - TCP\" 200 5120 \"-\" \"-\" mode=tcp service=chat \
             generation=7 backend=127.0.0.1:3150 duration_us=1234 request_bytes=12 reason=\"the client closed\"\n"
        );
    }

    #[test]
    fn what_was_turned_away_has_no_backend() {
        let refused = Connection { generation: None, backend: None, status: 503, reason: "maintenance", ..sample() };
        let line: Value = serde_json::from_str(&write(&refused, super::json)).unwrap();
        assert!(line.get("generation").is_none() && line.get("backend").is_none(), "{line}");
        assert!(write(&refused, combined).contains(" service=chat generation=- backend=- "));
    }
}
