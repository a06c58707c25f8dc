//! One question over a connection of its own.

use std::pin::pin;

use bytes::Bytes;
use h2::Ping;
use http::{Request, StatusCode};
use http_body_util::Empty;

use super::link::settings;
use crate::upstream::ask::{HEAD_LIMIT, Taste};
use crate::upstream::connect::Stream;
use crate::upstream::sender::Error;
use crate::wire::http2::outbound::outbound;

/// See [`crate::upstream::ask::ask`].
pub(crate) async fn ask(
    stream: Stream,
    request: Request<Empty<Bytes>>,
    taste: Option<Taste<'_>>,
) -> Result<StatusCode, h2::Error> {
    let (sender, connection) = settings(HEAD_LIMIT).handshake::<_, Bytes>(stream).await?;
    let talk = async move {
        let mut sender = sender.ready().await?;
        let (answer, _) = sender.send_request(outbound(request.into_parts().0).head, true)?;
        let (head, mut body) = answer.await?.into_parts();
        if let Some(taste) = taste {
            while let Some(data) = body.data().await {
                let data = data?;
                let _ = body.flow_control().release_capacity(data.len());
                if taste(&data).is_break() {
                    break;
                }
            }
        }
        Ok(head.status)
    };
    let (mut talk, mut connection) = (pin!(talk), pin!(connection));
    tokio::select! {
        biased;
        status = &mut talk => status,
        ended = &mut connection => match ended {
            Ok(()) => talk.await,
            Err(error) => Err(error),
        },
    }
}

/// See [`crate::upstream::ask::greet`].
pub(crate) async fn greet(stream: Stream) -> Result<(), Error> {
    let settings = settings(HEAD_LIMIT);
    let (sender, mut connection) = settings.handshake::<_, Bytes>(stream).await.map_err(Error::Http2)?;
    let mut pings = connection.ping_pong().expect("nobody has taken it before");
    let (mut pong, mut connection) = (pin!(pings.ping(Ping::opaque())), pin!(connection));
    let result = tokio::select! {
        biased;
        pong = &mut pong => pong.map(drop).map_err(Error::Http2),
        ended = &mut connection => Err(ended.map_or_else(Error::Http2, |()| Error::Gone)),
    };
    drop(sender);
    result
}
