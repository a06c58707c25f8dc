//! One question to a worker: how much unfinished work do you have?

use std::ops::ControlFlow;
use std::time::Duration;

use crate::config::model::worker::WorkCheck;
use crate::config::model::{Address, Protocol};
use crate::health::ask::request;
use crate::upstream::ask;
use crate::upstream::connect::connect;

/// The longest wait for the whole answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an answer. A longer one is none.
const LIMIT: usize = 64 * 1024;

/// Asks once. `host` is sent as Host. Cancel-safe: dropping the future closes the connection.
///
/// # Errors
/// What came instead of a number, in words: then nothing is known of its work.
pub async fn work(address: &Address, protocol: Protocol, check: &WorkCheck, host: &str) -> Result<u64, String> {
    let path = &check.path;
    let answer = async {
        let stream =
            connect(address, TIMEOUT).await.map_err(|error| format!("cannot connect to {address}: {error}"))?;
        let request =
            request(path, host, "tidegate-work").map_err(|error| format!("cannot be asked for {path}: {error}"))?;
        let mut body = Vec::new();
        let mut take = |data: &[u8]| {
            body.extend_from_slice(data);
            if body.len() > LIMIT { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let status = ask::ask(stream, protocol, request, Some(&mut take))
            .await
            .map_err(|error| format!("{address} gave no answer to GET {path}: {error}"))?;
        if !status.is_success() {
            return Err(format!("{address} answered {status} to GET {path}"));
        }
        number(&body, &check.pointer).map_err(|why| format!("what {address} answered to GET {path} {why}"))
    };
    tokio::time::timeout(TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| Err(format!("{address} gave no answer to GET {path} within {TIMEOUT:?}")))
}

/// The number in an answer: the whole of it, or what the pointer leads to (RFC 6901).
fn number(body: &[u8], pointer: &str) -> Result<u64, String> {
    if body.len() > LIMIT {
        return Err(format!("is longer than {LIMIT} bytes"));
    }
    let json: serde_json::Value =
        serde_json::from_slice(body).map_err(|_| "is neither a number nor JSON with one in it".to_owned())?;
    let found = json.pointer(pointer).ok_or_else(|| format!("has nothing at {pointer:?}"))?;
    // What is counted may as well be listed.
    let count = found.as_u64().or_else(|| found.as_array().map(|list| list.len() as u64));
    count.or_else(|| found.as_bool().map(u64::from)).ok_or_else(|| {
        let place = if pointer.is_empty() { String::new() } else { format!(" at {pointer:?}") };
        format!("has no whole number from 0 on{place}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_alone_or_where_the_pointer_leads() {
        for (body, pointer, expected) in [
            ("0", "", 0),
            (" 17\n", "", 17),
            (r#"{"jobs":{"open":3}}"#, "/jobs/open", 3),
            (r#"[1,{"a/b":4}]"#, "/1/a~1b", 4),
            (r#"{"jobs":["a","b"]}"#, "/jobs", 2),
            (r#"{"busy":true}"#, "/busy", 1),
        ] {
            assert_eq!(number(body.as_bytes(), pointer), Ok(expected), "{body}");
        }
    }

    #[test]
    fn everything_else_is_told_in_words() {
        for (body, pointer, words) in [
            ("", "", "neither a number"),
            ("none", "", "neither a number"),
            ("-1", "", "no whole number"),
            ("1.5", "", "no whole number"),
            (r#"{"jobs":1}"#, "/work", "has nothing at \"/work\""),
            (r#"{"jobs":"1"}"#, "/jobs", "no whole number from 0 on at \"/jobs\""),
        ] {
            let why = number(body.as_bytes(), pointer).unwrap_err();
            assert!(why.contains(words), "{body}: {why}");
        }
        assert!(number(&vec![b'1'; LIMIT + 1], "").unwrap_err().contains("longer"));
    }
}
