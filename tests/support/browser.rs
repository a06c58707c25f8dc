//! A client with a session, which knows what it left on the server and notices when that is gone.

use std::net::SocketAddr;

use super::wire::{Message, Wire};

/// Where a session lives, as the application says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) backend: String,
    pub(crate) generation: u64,
}

/// Reads the application's answer.
pub(crate) fn place(answer: &Message) -> Place {
    let json = answer.json();
    let text = |key: &str| json[key].as_str().map(str::to_owned);
    Place {
        backend: text("backend").unwrap_or_else(|| panic!("no backend in {answer:?}")),
        generation: json["generation"].as_u64().expect("a generation is a number"),
    }
}

/// One keep-alive connection and one cookie. It never asks twice: an answer that fails is a failure.
pub(crate) struct Browser {
    gateway: SocketAddr,
    wire: Option<Wire>,
    /// The value of the cookie `sid`.
    pub(crate) id: Option<String>,
    /// Where the session was opened.
    pub(crate) home: Option<Place>,
    count: u64,
}

impl Browser {
    pub(crate) fn new(gateway: SocketAddr) -> Self {
        Self { gateway, wire: None, id: None, home: None, count: 0 }
    }

    /// The same session in a tab of its own, with a connection of its own.
    pub(crate) fn tab(&self) -> Self {
        Self { gateway: self.gateway, wire: None, id: self.id.clone(), home: self.home.clone(), count: self.count }
    }

    /// One exchange; obeys `Set-Cookie` and `Connection: close`.
    pub(crate) async fn try_ask(&mut self, method: &str, target: &str) -> Result<Message, String> {
        let trouble = |error: std::io::Error| format!("{method} {target}: {error}");
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => Wire::connect(self.gateway).await.map_err(trouble)?,
        };
        let cookie =
            self.id.as_ref().map_or_else(String::new, |id| format!("Cookie: theme=dark; sid={id}; lang=en\r\n"));
        wire.try_send(format!("{method} {target} HTTP/1.1\r\nHost: app.test\r\n{cookie}\r\n"))
            .await
            .map_err(trouble)?;
        let answer = wire.try_answer(method).await.map_err(trouble)?;
        for cookie in answer.head.all("set-cookie") {
            self.obey(cookie);
        }
        if !answer.head.has("connection", "close") {
            self.wire = Some(wire);
        }
        Ok(answer)
    }

    pub(crate) async fn ask(&mut self, method: &str, target: &str) -> Message {
        self.try_ask(method, target).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn get(&mut self, target: &str) -> Message {
        self.ask("GET", target).await
    }

    fn obey(&mut self, cookie: &str) {
        let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
        let (name, value) = pair.split_once('=').expect("a cookie is a pair");
        let attribute = |wanted: &str| {
            let mut pairs = attributes.split(';').filter_map(|attribute| attribute.trim().split_once('='));
            pairs.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
        };
        if name == "sid" && attribute("path").is_none_or(|path| path == "/") {
            let deleted = value.is_empty() || attribute("max-age").is_some_and(|age| age == "0");
            self.id = (!deleted).then(|| value.to_owned());
        }
    }

    /// Opens a session and remembers where.
    pub(crate) async fn try_login(&mut self) -> Result<Place, String> {
        let answer = self.try_ask("POST", "/login").await?;
        if answer.status() != 200 || self.id.is_none() {
            return Err(format!("no session was opened: {answer:?}"));
        }
        let place = place(&answer);
        (self.home, self.count) = (Some(place.clone()), 0);
        Ok(place)
    }

    pub(crate) async fn login(&mut self) -> Place {
        self.try_login().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Counts one further in the session; an answer from elsewhere, or with another number, is an error.
    pub(crate) async fn try_count(&mut self) -> Result<Place, String> {
        let answer = self.try_ask("GET", "/count").await?;
        if answer.status() != 200 {
            return Err(format!("the session of {:?} is gone: {answer:?}", self.home));
        }
        self.count += 1;
        let (seen, found) = (place(&answer), answer.json()["count"].as_u64());
        if self.home.as_ref() != Some(&seen) || found != Some(self.count) {
            return Err(format!("count {} of {:?} became {found:?} of {seen:?}", self.count, self.home));
        }
        Ok(seen)
    }

    pub(crate) async fn count(&mut self) -> Place {
        self.try_count().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Ends the session; the application deletes the cookie.
    pub(crate) async fn try_logout(&mut self) -> Result<(), String> {
        let answer = self.try_ask("POST", "/logout").await?;
        if answer.status() != 200 || self.home.as_ref() != Some(&place(&answer)) {
            return Err(format!("the session of {:?} was not there to end: {answer:?}", self.home));
        }
        self.home = None;
        Ok(())
    }

    pub(crate) async fn logout(&mut self) {
        self.try_logout().await.unwrap_or_else(|error| panic!("{error}"));
    }
}
