//! Which session a request belongs to, and when that session ends: the `[service.session]` table.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderName, Method};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where a request's session id is found, and when a session ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRules {
    /// What the ids belong to: sessions are shared by all services of one space. The service's name unless set.
    pub space: String,
    /// In the order in which the file names them; empty for a service without sessions.
    pub sources: Vec<Source>,
    /// A session without a request or an open tunnel.
    pub idle_timeout: Duration,
    /// A session that was seen once only, on a detached generation.
    pub unconfirmed_timeout: Duration,
    /// The application's own idle timeout, as far as it shows outside: an id that is replaced after it is no rename.
    pub application_timeout: Duration,
    /// A session's longest life, whatever it does; `None` for no limit.
    pub max_age: Option<Duration>,
    /// How long a renamed session's former id is still understood.
    pub rename_grace: Duration,
    /// From the end of a session's last tunnel (or its last request after that) to the session's end; `None` when
    /// tunnels end no session.
    pub end_with_last_tunnel: Option<Duration>,
    /// Exchanges that end the session of the request.
    pub end: Vec<EndRule>,
    /// Whether a backend that answers 404 to a request of a session says that it knows the session no more.
    pub end_on_not_found: bool,
    /// Requests that open no session.
    pub no_session: Vec<Exemption>,
    /// Requests to these paths do not touch their session.
    pub no_touch: Vec<PathPattern>,
    /// Until this moment, ids that nobody knows are adopted whatever their source: for the day on which the gateway
    /// is put before an application that has sessions already.
    pub adopt_until: Option<SystemTime>,
    /// What becomes of a session whose backend is lost.
    #[serde(default)]
    pub on_lost: OnLost,
    /// A bound session's backend is lost when connects to it have failed for so long without a break.
    #[serde(default = "crate::config::defaults::lost_after")]
    pub lost_after: Duration,
    /// Whether responses tell the session's generation and the newest one.
    pub announce: bool,
    /// The path at which a client ends its own session to move to the active generation; `None` when there is none.
    pub switch: Option<String>,
}

/// One place in which a session id is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Where.
    pub place: IdPlace,
    /// Whether an id from there that nobody knows is bound at the head of a successful answer.
    pub adopts: bool,
}

impl Source {
    /// A place whose unknown ids are treated as usual: those are adopted that no answer's head ever teaches.
    pub fn of(place: IdPlace) -> Self {
        let adopts = matches!(place, IdPlace::PathSegment(_) | IdPlace::Query(_));
        Self { place, adopts }
    }
}

/// Where an id stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdPlace {
    /// The application's own cookie of this name.
    Cookie(String),
    /// A header of this name, in requests and in responses.
    Header(#[serde(with = "as_text")] HeaderName),
    /// A parameter of a path segment: `/cart;jsessionid=…` (RFC 3986 section 3.3).
    PathParameter(String),
    /// A whole path segment.
    PathSegment(PathTemplate),
    /// A key of the query: `?sid=…`.
    Query(String),
    /// A cookie that the gateway issues by itself.
    Issued(IssuedCookie),
}

/// `/api/kernels/{id}/*`: where in a path an id stands. What follows the last segment does not matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathTemplate {
    /// The segments up to the id, the id's own not among them; `None` for a segment of any content (`*`).
    pub before: Vec<Option<String>>,
}

/// The cookie that the gateway issues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCookie {
    /// Its name.
    pub name: String,
    /// Its Domain attribute; `None` for this host only.
    pub domain: Option<String>,
    /// Its Path attribute.
    pub path: String,
    /// Its SameSite attribute.
    pub same_site: SameSite,
    /// Its Secure attribute.
    pub secure: Secure,
}

/// The SameSite attribute of an issued cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SameSite {
    /// Sent along with requests from this site only.
    Strict,
    /// Sent along with navigation from other sites, too.
    Lax,
    /// Sent along with every request; browsers ask for Secure then.
    None,
}

/// When an issued cookie carries the attribute Secure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Secure {
    /// When the client came by TLS, be it to a trusted peer in front.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What becomes of a session whose backend is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnLost {
    /// It is over, and the request goes to a backend of the active generation, which is told.
    #[default]
    Redispatch,
    /// It is over. A browser that asks for a page is sent to the same place without its id; all others get 503.
    Redirect,
    /// It is over, and the request gets 404.
    NotFound,
    /// It stays bound, and its requests get 503 for as long as the backend is away.
    Strict,
}

impl OnLost {
    /// How the file names each of them.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("redispatch", Self::Redispatch),
        ("redirect", Self::Redirect),
        ("not_found", Self::NotFound),
        ("strict", Self::Strict),
    ];
}

impl fmt::Display for OnLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::WORDS.iter().find(|(_, value)| value == self);
        f.write_str(word.map_or("", |(word, _)| word))
    }
}

/// A request that ends its session when the backend answers it with 2xx or 3xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRule {
    /// The method; `None` for every method.
    #[serde(with = "as_text::optional")]
    pub method: Option<Method>,
    /// The path exactly as the client sent it, without the query; `None` for every path.
    pub path: Option<String>,
}

/// Requests that open no session: those that match all that is set; at least one is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exemption {
    /// Their path.
    pub path: Option<PathPattern>,
    /// A part of their User-Agent, in lower case; compared without regard to case.
    pub user_agent: Option<String>,
    /// Networks of their clients; empty for every client.
    pub from: Vec<IpNet>,
}

/// A path, or all that begin with one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathPattern {
    /// This very path, as the client sends it, without the query.
    Exact(String),
    /// Every path that begins so: `/assets/` for `/assets/*`.
    Below(String),
}

impl PathPattern {
    /// Whether a path (without the query) is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            PathPattern::Exact(exact) => path == exact,
            PathPattern::Below(start) => path.starts_with(start.as_str()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            IdPlace::Cookie(name) => write!(f, "cookie {name}")?,
            IdPlace::Header(name) => write!(f, "header {name}")?,
            IdPlace::PathParameter(name) => write!(f, "path_parameter {name}")?,
            IdPlace::PathSegment(template) => write!(f, "path_segment {template}")?,
            IdPlace::Query(key) => write!(f, "query {key}")?,
            IdPlace::Issued(cookie) => write!(f, "issue {}", cookie.name)?,
        }
        f.write_str(if self.adopts { " (adopts)" } else { "" })
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.before {
            write!(f, "/{}", segment.as_deref().unwrap_or("*"))?;
        }
        f.write_str("/{id}")
    }
}

impl fmt::Display for EndRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.method, &self.path) {
            (Some(method), Some(path)) => write!(f, "{method} {path}"),
            (Some(method), None) => write!(f, "{method}"),
            (None, path) => f.write_str(path.as_deref().unwrap_or("*")),
        }
    }
}

impl fmt::Display for Exemption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.as_ref().map(|path| format!("path {path}"));
        let agent = self.user_agent.as_ref().map(|agent| format!("user agent {agent:?}"));
        let from = self.from.iter().map(|network| format!("from {network}"));
        f.write_str(&path.into_iter().chain(agent).chain(from).collect::<Vec<_>>().join(" and "))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathPattern::Exact(path) => f.write_str(path),
            PathPattern::Below(start) => write!(f, "{start}*"),
        }
    }
}

/// Names and methods as the texts that they are, for the record of a service.
pub(super) mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in super::super) fn serialize<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in super::super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }

    pub(in super::super) mod optional {
        use super::*;

        pub(in crate::config::model) fn serialize<S: Serializer>(
            value: &Option<impl Display>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => serializer.collect_str(value),
                None => serializer.serialize_none(),
            }
        }

        pub(in crate::config::model) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
        where
            T: FromStr<Err: Display>,
            D: Deserializer<'de>,
        {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_record_gives_the_rules_back() {
        let text = r#"
            [[service]]
            name = "app"
            backends = ["127.0.0.1:8801"]
            session = { cookie = "SID", header = "X-Session", end = [{ method = "POST", path = "/logout" }] }
        "#;
        let model = config::parse("test", text).expect("a sound file").model;
        let rules = &model.services[0].session;
        let text = serde_json::to_string(rules).expect("rules can be written");
        assert_eq!(serde_json::from_str::<SessionRules>(&text).expect("and read"), *rules);
    }
}
