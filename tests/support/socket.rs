//! A WebSocket to the application behind the gateway.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::wait::within;

/// An open one.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Opens `path` with the session of this id, and takes the application's first word.
    pub(crate) async fn open(gateway: SocketAddr, path: &str, id: Option<&str>) -> Self {
        Self::greeted(gateway, path, id).await.0
    }

    /// A tab that holds a WebSocket of a session, which the application knows.
    pub(crate) async fn tab(gateway: SocketAddr, id: &str) -> Self {
        let (tab, hello) = Self::greeted(gateway, "/ws", Some(id)).await;
        assert!(hello.contains("\"known\":true"), "{hello:?}");
        tab
    }

    async fn greeted(gateway: SocketAddr, path: &str, id: Option<&str>) -> (Self, String) {
        let mut request = format!("ws://{gateway}{path}").into_client_request().unwrap();
        if let Some(id) = id {
            request.headers_mut().insert("cookie", format!("sid={id}").parse().unwrap());
        }
        let stream = TcpStream::connect(gateway).await.unwrap();
        let opened = within("a WebSocket opens", tokio_tungstenite::client_async(request, stream)).await;
        let (socket, answer) = opened.unwrap_or_else(|error| panic!("no WebSocket: {error}"));
        assert_eq!(answer.status(), 101);
        let mut socket = Self(socket);
        let hello = socket.text().await;
        (socket, hello)
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message.
    pub(crate) async fn text(&mut self) -> String {
        let message = within("a message comes", self.0.next()).await.expect("the socket is open").unwrap();
        message.to_text().unwrap().to_owned()
    }
}
