//! One end of an HTTP/1.1 connection, byte by byte: nothing is repaired, retried or hidden.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::wait::DEADLINE;

/// A connection and what was read from it too early.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Start line and fields as they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) fields: Vec<(String, String)>,
}

/// A whole message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// The 1xx heads before it.
    pub(crate) interim: Vec<Head>,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn status(&self) -> u16 {
        let code = self.start.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("no status line: {:?}", self.start))
    }

    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap()
    }

    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_else(|| panic!("no request line: {:?}", self.start))
    }

    /// All lines of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| value.as_str()).collect()
    }

    /// The one line of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let lines = self.all(name);
        assert!(lines.len() < 2, "{name} stands {} times in {self:?}", lines.len());
        lines.first().copied()
    }

    /// Whether a list-valued field has this member.
    pub(crate) fn has(&self, name: &str, member: &str) -> bool {
        let lines = self.all(name);
        lines.iter().flat_map(|line| line.split(',')).any(|word| word.trim().eq_ignore_ascii_case(member))
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        Self { start, fields: fields(lines) }
    }
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let split = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
        (name.to_owned(), value.trim().to_owned())
    };
    lines.filter(|line| !line.is_empty()).map(split).collect()
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in the body of {self:?}"))
    }
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = timed(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Self::new(stream))
    }

    /// As [`Wire::connect`], for tests to which a refused connection is a failure.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::connect(address).await.unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The socket, for another protocol than HTTP; what came too early must be nothing.
    pub(crate) fn into_stream(self) -> TcpStream {
        assert!(self.buffer.is_empty(), "bytes behind the head: {:?}", String::from_utf8_lossy(&self.buffer));
        self.stream
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        timed(self.stream.write_all(bytes.as_ref())).await
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the other side reads");
    }

    /// Says that nothing more comes, and goes on reading.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.expect("the connection is open");
    }

    /// Closes with a reset, as a process that is killed with unread input does.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// Reads more; false at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        Ok(timed(self.stream.read_buf(&mut self.buffer)).await? > 0)
    }

    /// The next head; `None` when the other side closed before a byte of it.
    pub(crate) async fn try_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.buffer[..at]).into_owned();
                self.buffer.drain(..at + 4);
                return Ok(Some(Head::parse(&text)));
            }
            if !self.fill().await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(cut()) };
            }
        }
    }

    pub(crate) async fn head(&mut self) -> Head {
        self.try_head().await.expect("a head comes whole").expect("a head comes")
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..at]).into_owned();
                self.buffer.drain(..at + 2);
                return Ok(line);
            }
            if !self.fill().await? {
                return Err(cut());
            }
        }
    }

    /// Exactly so many bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.fill().await? {
                return Err(cut());
            }
        }
        let rest = self.buffer.split_off(count);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// The next chunk of a chunked body; `Err(trailers)` inside when it was the last.
    pub(crate) async fn chunk(&mut self) -> io::Result<Result<Vec<u8>, Vec<(String, String)>>> {
        let line = self.line().await?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
        let size = size.unwrap_or_else(|_| panic!("no chunk size: {line:?}"));
        if size > 0 {
            let bytes = self.exactly(size).await?;
            assert_eq!(self.line().await?, "", "a chunk ends with an empty line");
            return Ok(Ok(bytes));
        }
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(Err(fields(lines.iter().map(String::as_str))));
            }
            lines.push(line);
        }
    }

    /// The body behind `head`; `bodyless` for answers to HEAD.
    pub(crate) async fn body(&mut self, head: &Head, bodyless: bool) -> io::Result<(Vec<u8>, Vec<(String, String)>)> {
        let is_answer = head.start.starts_with("HTTP/");
        if bodyless || (is_answer && matches!(head.status(), 100..200 | 204 | 304)) {
            return Ok(Default::default());
        }
        if head.has("transfer-encoding", "chunked") {
            let mut body = Vec::new();
            loop {
                match self.chunk().await? {
                    Ok(bytes) => body.extend(bytes),
                    Err(trailers) => return Ok((body, trailers)),
                }
            }
        }
        match head.get("content-length") {
            Some(length) => Ok((self.exactly(length.parse().expect("a length is a number")).await?, Vec::new())),
            None if is_answer => Ok((self.rest().await?, Vec::new())),
            None => Ok(Default::default()),
        }
    }

    /// The next whole request, as a backend reads it; `None` when the other side closed instead.
    pub(crate) async fn request(&mut self) -> io::Result<Option<Message>> {
        let Some(head) = self.try_head().await? else { return Ok(None) };
        let (body, trailers) = self.body(&head, false).await?;
        Ok(Some(Message { interim: Vec::new(), head, body, trailers }))
    }

    /// The answer to a request of this method, 1xx heads apart.
    pub(crate) async fn try_answer(&mut self, method: &str) -> io::Result<Message> {
        let mut interim = Vec::new();
        loop {
            let head = self.try_head().await?.ok_or_else(cut)?;
            if (100..200).contains(&head.status()) && head.status() != 101 {
                interim.push(head);
                continue;
            }
            let (body, trailers) = self.body(&head, method == "HEAD").await?;
            return Ok(Message { interim, head, body, trailers });
        }
    }

    pub(crate) async fn answer(&mut self) -> Message {
        self.try_answer("GET").await.expect("an answer comes whole")
    }

    /// Sends a request without a body and takes the answer.
    pub(crate) async fn ask(&mut self, method: &str, target: &str, fields: &str) -> Message {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n")).await;
        self.try_answer(method).await.unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    pub(crate) async fn get(&mut self, target: &str) -> Message {
        self.ask("GET", target, "").await
    }

    /// All that comes until the other side closes.
    pub(crate) async fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill().await? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Waits for the other side to close or reset; returns what it still sent.
    pub(crate) async fn closed(&mut self) -> Vec<u8> {
        match self.rest().await {
            Ok(rest) => rest,
            Err(error) if is_reset(&error) => std::mem::take(&mut self.buffer),
            Err(error) => panic!("the connection is not closed: {error}"),
        }
    }
}

/// Whether the error is how a closed connection shows.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted
    )
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed in the middle")
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}

async fn timed<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing happened within {DEADLINE:?}"))),
    }
}
