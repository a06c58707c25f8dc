//! What stands behind the proxies: cheap, so that the proxy is what is measured.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A small page's worth of bytes.
const SMALL: usize = 128;
/// A picture's.
const LARGE: usize = 64 * 1024;

/// Serves on all of these for ever: `/page` and `/picture` with fixed answers, `/login?ID` with a cookie `sid=ID`.
pub(crate) async fn serve(addresses: &[SocketAddr]) {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(TcpListener::bind(address).await.expect("the address is free"));
    }
    let head = |size: usize| format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n");
    let answer = |size: usize| [head(size).into_bytes(), vec![b'x'; size]].concat();
    let page: &'static [u8] = answer(SMALL).leak();
    let picture: &'static [u8] = answer(LARGE).leak();
    let tasks: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer_all(stream, page, picture));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a listener does not end");
    }
}

async fn answer_all(mut stream: TcpStream, page: &'static [u8], picture: &'static [u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let Some(end) = memchr::memmem::find(&buffer, b"\r\n\r\n") else {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let head = &buffer[..end + 4];
        // Said by wrk when nobody is between; proxies keep their connections.
        let closing = memchr::memmem::find(head, b"\r\nConnection: close\r\n").is_some();
        if closing {
            let answer = if head.starts_with(b"GET /picture") { picture } else { page };
            let rest = answer.strip_prefix(STATUS_LINE).unwrap_or(answer);
            stream.write_all(&[STATUS_LINE, b"Connection: close\r\n", rest].concat()).await?;
            return stream.shutdown().await;
        }
        if head.starts_with(b"GET /login?") {
            let id = head[b"GET /login?".len()..].split(|&byte| byte == b' ').next().unwrap_or_default();
            let id = String::from_utf8_lossy(id);
            let answer = format!("HTTP/1.1 200 OK\r\nSet-Cookie: sid={id}; Path=/\r\nContent-Length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes()).await?;
        } else if head.starts_with(b"GET /picture") {
            stream.write_all(picture).await?;
        } else {
            stream.write_all(page).await?;
        }
        buffer.drain(..end + 4);
    }
}

/// With what each answer begins.
const STATUS_LINE: &[u8] = b"HTTP/1.1 200 OK\r\n";
