//! One question to a backend: are you ready?

use std::fmt;
use std::time::Duration;

use crate::config::model::{Address, Protocol, ReadyCheck};
use crate::health::ask;
use crate::upstream::ask::greet;
use crate::upstream::connect::connect;

/// The longest wait for an answer's head. A backend that needs longer to say that it is ready is not.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a backend is not ready.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal(String);

impl Refusal {
    /// For a reason that the answer itself does not tell.
    pub fn because(why: String) -> Self {
        Self(why)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Asks once, in the protocol that the backend is to speak. Ready is a 2xx or 3xx answer to GET of the check's path;
/// without a path, a connection, and over HTTP/2 the backend's own beginning of it.
///
/// `host` is sent as Host. Cancel-safe: dropping the future closes the connection.
///
/// # Errors
/// What happened instead: no connection, no answer in time, another status, another protocol.
pub async fn probe(
    address: &Address,
    protocol: Protocol,
    check: &ReadyCheck,
    connect_timeout: Duration,
    host: &str,
) -> Result<(), Refusal> {
    let stream = connect(address, connect_timeout)
        .await
        .map_err(|error| Refusal(format!("cannot connect to {address}: {error}")))?;
    let Some(path) = &check.path else {
        return match tokio::time::timeout(ANSWER_TIMEOUT, greet(stream, protocol)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Refusal(format!("{address} {}", ask::no_greeting(&error)))),
            Err(_) => Err(Refusal(format!("{address} did not begin HTTP/2 within {ANSWER_TIMEOUT:?}"))),
        };
    };
    let request = ask::request(path, host, "tidegate-ready")
        .map_err(|error| Refusal(format!("cannot ask {address} for {path}: {error}")))?;
    match tokio::time::timeout(ANSWER_TIMEOUT, ask::ask(stream, protocol, request, None)).await {
        Ok(Ok(answer)) if answer.status.is_success() || answer.status.is_redirection() => Ok(()),
        Ok(Ok(answer)) => Err(Refusal(format!("{address} answered {} to GET {path}", answer.status))),
        Ok(Err(error)) => Err(Refusal(format!("{address} gave no answer to GET {path}: {error}"))),
        Err(_) => Err(Refusal(format!("{address} gave no answer to GET {path} within {ANSWER_TIMEOUT:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn check(path: Option<&str>) -> ReadyCheck {
        ReadyCheck { path: path.map(str::to_owned), timeout: TIMEOUT, interval: TIMEOUT }
    }

    /// Answers one connection with these bytes; gives what it was asked.
    async fn answer(listener: TcpListener, bytes: &'static [u8]) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap() == 0 {
                break;
            }
            asked.push(byte[0]);
        }
        stream.write_all(bytes).await.unwrap();
        String::from_utf8(asked).unwrap()
    }

    async fn asked(bytes: &'static [u8]) -> (Result<(), Refusal>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let backend = tokio::spawn(answer(listener, bytes));
        let result =
            probe(&address, Protocol::Http1, &check(Some("/healthz?deep=1")), TIMEOUT, "shop.example.com").await;
        (result, backend.await.unwrap())
    }

    #[tokio::test]
    async fn ready_is_2xx_or_3xx() {
        let (result, asked) = asked(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(result, Ok(()));
        assert!(asked.starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"), "{asked}");
        assert!(
            asked.contains("host: shop.example.com\r\n") && asked.contains("user-agent: tidegate-ready\r\n"),
            "{asked}"
        );
        assert_eq!(self::asked(b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n").await.0, Ok(()));
        // An endless answer is an answer.
        assert_eq!(self::asked(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\nx").await.0, Ok(()));
    }

    #[tokio::test]
    async fn everything_else_is_told_in_words() {
        for (bytes, words) in [
            (&b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"[..], "answered 503"),
            (b"", "gave no answer to GET /healthz"),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "gave no answer to GET /healthz"),
        ] {
            let refusal = asked(bytes).await.0.unwrap_err().to_string();
            assert!(refusal.contains(words), "{refusal}");
        }
    }

    #[tokio::test]
    async fn without_a_path_a_connection_is_enough() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
        assert_eq!(probe(&address, Protocol::Http1, &check(None), TIMEOUT, "x").await, Ok(()));
        drop(listener);
        let refusal = probe(&address, Protocol::Http1, &check(None), TIMEOUT, "x").await.unwrap_err().to_string();
        assert!(refusal.contains(&format!("cannot connect to 127.0.0.1:{port}")), "{refusal}");
    }
}
