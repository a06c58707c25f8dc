//! WebSockets to backends that speak HTTP/2 (RFC 8441).

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::ext::Protocol;
use http::Method;
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::http2::request;
use crate::support::{Call, File, Gateway, H2c, Http2, Wire, eventually, within};
use crate::{before, service};

/// Takes WebSockets at `/ws` and sends back what comes; frames of both sides look alike to it.
async fn echoing() -> H2c {
    let mut settings = h2::server::Builder::new();
    settings.enable_connect_protocol();
    H2c::with(settings, async |mut call: Call| {
        let protocol = call.head.extensions.get::<Protocol>().map(|protocol| protocol.as_str().to_owned());
        if call.head.uri.path() != "/ws" {
            call.reply(403, &[], b"not here").await;
            return;
        }
        assert_eq!((call.head.method.clone(), protocol.as_deref()), (Method::CONNECT, Some("websocket")));
        assert_eq!(call.head.headers["sec-websocket-version"], "13");
        for gone in ["sec-websocket-key", "upgrade", "connection"] {
            assert!(!call.head.headers.contains_key(gone), "{gone}");
        }
        let mut down = call.begin(200, &[("sec-websocket-protocol", "chat")]);
        // An unmasked greeting; what comes back is masked, and goes back unmasked.
        down.send_data(Bytes::from_static(b"\x81\x05hello"), false).unwrap();
        let mut frames: Vec<u8> = Vec::new();
        while let Some(Ok(piece)) = call.piece().await {
            frames.extend_from_slice(&piece);
            while frames.len() >= 6 && frames.len() >= 6 + usize::from(frames[1] & 0x7f) {
                let length = usize::from(frames[1] & 0x7f);
                let mask: [u8; 4] = frames[2..6].try_into().unwrap();
                let data: Vec<u8> = frames[6..6 + length].iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect();
                let frame = [&[frames[0], frames[1] & 0x7f], &data[..]].concat();
                frames.drain(..6 + length);
                // Behind a Close it hangs up.
                let is_last = frame[0] & 0x0f == 8;
                if down.send_data(frame.into(), is_last).is_err() || is_last {
                    return;
                }
            }
        }
        let _ = down.send_data(Bytes::new(), true);
    })
    .await
}

type Socket = WebSocketStream<TcpStream>;

async fn open(gateway: &Gateway) -> Result<Socket, Error> {
    let mut request = format!("ws://{}/ws", gateway.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (socket, answer) = within("it is answered", tokio_tungstenite::client_async(request, stream)).await?;
    assert_eq!(answer.status(), 101);
    Ok(socket)
}

async fn next(socket: &mut Socket) -> Result<Message, Error> {
    within("a message comes", socket.next()).await.expect("the socket is open")
}

#[tokio::test]
async fn clients_of_http1_speak_with_backends_of_http2() {
    let backend = echoing().await;
    let file = File::new([service(&backend)]).set("threads", 1).set("shutdown_timeout", "\"1s\"");
    let gateway = Gateway::ready(file).await;
    let (mut one, mut other) = (open(&gateway).await.unwrap(), open(&gateway).await.unwrap());
    for socket in [&mut one, &mut other] {
        assert_eq!(next(socket).await.unwrap(), Message::text("hello"));
    }
    for number in 0..200 {
        for socket in [&mut one, &mut other] {
            socket.send(Message::text(format!("message {number}"))).await.unwrap();
            assert_eq!(next(socket).await.unwrap(), Message::text(format!("message {number}")));
        }
    }
    assert_eq!(backend.connections(), 1, "both are streams of one connection");
    let status = gateway.status().await;
    assert_eq!(status.generation("app", 1).unwrap().tunnels, 2);
    one.close(None).await.unwrap();
    while let Some(Ok(_)) = within("it ends", one.next()).await {}
    // The other one is told that the gateway stops.
    gateway.signal(Signal::TERM);
    let mut code = None;
    while let Some(Ok(message)) = within("it ends", other.next()).await {
        if let Message::Close(Some(frame)) = message {
            code = Some(u16::from(frame.code));
        }
    }
    assert_eq!(code, Some(1001));
}

#[tokio::test]
async fn clients_of_http2_speak_with_backends_of_http2() {
    let backend = echoing().await;
    let gateway = before(&backend).await;
    let client = Http2::open(gateway.address).await;
    // The client must not ask before the gateway has offered it (RFC 8441 section 3).
    assert_eq!(client.get("/").await.status, 403);
    let mut asked = request("CONNECT", "/ws", &[("sec-websocket-version", "13")]);
    asked.extensions_mut().insert(Protocol::from_static("websocket"));
    let (answer, mut up) = client.start(asked, false).await;
    let answer = within("it is answered", answer).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["sec-websocket-protocol"].as_bytes()), (200, &b"chat"[..]));
    let mut down = answer.into_body();
    assert_eq!(within("it speaks", down.data()).await.unwrap().unwrap(), Bytes::from_static(b"\x81\x05hello"));
    up.send_data(Bytes::from_static(b"\x81\x82\0\0\0\0ab"), false).unwrap();
    assert_eq!(within("it answers", down.data()).await.unwrap().unwrap(), Bytes::from_static(b"\x81\x02ab"));
    up.send_data(Bytes::new(), true).unwrap();
    while let Some(Ok(_)) = within("it ends", down.data()).await {}
    eventually("the tunnel is over", async || match gateway.status().await.generation("app", 1).unwrap().tunnels {
        0 => Ok(()),
        tunnels => Err(tunnels),
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_takes_none_is_said_so() {
    let backend = H2c::saying("plain").await;
    let gateway = before(&backend).await;
    let Err(Error::Http(answer)) = open(&gateway).await else { panic!("it was opened") };
    assert_eq!(answer.status(), 501);
    assert!(backend.heard().is_empty());
    // Any other upgrade may be ignored, and is.
    let mut wire = Wire::open(gateway.address).await;
    let answer = wire.ask("GET", "/", "Connection: upgrade\r\nUpgrade: other/1\r\n").await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "plain"));
    // And a backend that takes them may refuse one.
    let backend = echoing().await;
    let gateway = before(&backend).await;
    let mut wire = Wire::open(gateway.address).await;
    let fields = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let answer = wire.ask("GET", "/elsewhere", fields).await;
    assert_eq!((answer.status(), answer.text().as_str()), (403, "not here"));
}
