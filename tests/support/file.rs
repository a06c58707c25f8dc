//! The configuration file as tests write it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::{self, Display, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{LazyLock, Mutex};

/// Ports that this process has handed out.
static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// An address on loopback that nobody uses: below the ports that the system gives to clients, so that none of them
/// takes it before its user binds it.
pub(crate) fn free_address() -> SocketAddr {
    loop {
        let port = fastrand::u16(12_000..32_000);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TAKEN.lock().unwrap().insert(port) && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A base of a hundred ports that nobody uses and no test is given: below those of `free_address`, one of which
/// may be the admin API's of the same file.
pub(crate) fn base_port() -> u16 {
    static BASES: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let base = 100 * fastrand::u16(20..99);
        let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if BASES.lock().unwrap().insert(base) && (base..base + 100).all(is_free) {
            return base;
        }
    }
}

/// A file: the `[gateway]` table and services.
#[derive(Clone, Debug)]
pub(crate) struct File {
    gateway: BTreeMap<String, String>,
    services: Vec<Service>,
    /// Put before the first table.
    pub(crate) head: String,
    /// Appended as it is.
    pub(crate) tail: String,
}

impl File {
    /// A file with these services, and a `[gateway]` table for tests: state and access log below the gateway's folder
    /// (`%FOLDER%`), short pauses.
    pub(crate) fn new(services: impl IntoIterator<Item = Service>) -> Self {
        let gateway = [
            ("listen", format!("[\"{}\"]", free_address())),
            ("admin", format!("\"{}\"", free_address())),
            ("state", "\"%FOLDER%/state\"".to_owned()),
            ("threads", "2".to_owned()),
            ("health_path", "\"/.tidegate/ready\"".to_owned()),
            ("access_log", "\"%FOLDER%/access.log\"".to_owned()),
            ("access_log_format", "\"json\"".to_owned()),
            ("shutdown_delay", "\"0s\"".to_owned()),
            ("shutdown_timeout", "\"40s\"".to_owned()),
        ];
        let gateway = gateway.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Self { gateway, services: services.into_iter().collect(), head: String::new(), tail: String::new() }
    }

    /// Sets a key of `[gateway]` to a TOML value.
    pub(crate) fn set(mut self, key: &str, value: impl Display) -> Self {
        self.gateway.insert(key.to_owned(), value.to_string());
        self
    }

    /// The same `[gateway]` table over other services.
    pub(crate) fn with(&self, services: impl IntoIterator<Item = Service>) -> Self {
        Self { services: services.into_iter().collect(), ..self.clone() }
    }

    pub(crate) fn get(&self, key: &str) -> &str {
        &self.gateway[key]
    }
}

impl Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        writeln!(f, "[gateway]")?;
        for (key, value) in &self.gateway {
            writeln!(f, "{key} = {value}")?;
        }
        self.services.iter().try_for_each(|service| write!(f, "\n{service}"))?;
        f.write_str(&self.tail)
    }
}

/// A `[[service]]` table.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    keys: BTreeMap<String, String>,
    generations: Vec<(u64, String)>,
}

impl Service {
    /// A service with sessions in the cookie `sid`, asked often whether it is ready.
    pub(crate) fn new(name: &str) -> Self {
        let keys = [
            ("name", format!("\"{name}\"")),
            // The rule matches nothing; without one, every start warns.
            ("session", "{ cookie = \"sid\", end = [{ path = \"/never\" }] }".to_owned()),
            ("ready", "{ interval = \"20ms\", timeout = \"40s\" }".to_owned()),
        ];
        let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Self { keys, generations: Vec::new() }
    }

    /// A service of plain TCP at an address of its own.
    pub(crate) fn tcp(name: &str, address: SocketAddr) -> Self {
        let mut service = Self::new(name).set("mode", "\"tcp\"").set("listen", format!("[\"{address}\"]"));
        service.keys.remove("session");
        service
    }

    /// The service that most tests are about.
    pub(crate) fn app() -> Self {
        Self::new("app")
    }

    /// Sets a key to a TOML value.
    pub(crate) fn set(mut self, key: &str, value: impl Display) -> Self {
        self.keys.insert(key.to_owned(), value.to_string());
        self
    }

    /// What is inside the braces of `session`.
    pub(crate) fn session(self, keys: &str) -> Self {
        self.set("session", format!("{{ {keys} }}"))
    }

    /// The shorthand list.
    pub(crate) fn backends<A: Display>(self, addresses: impl IntoIterator<Item = A>) -> Self {
        let list = list(addresses);
        self.set("backends", list)
    }

    /// One more `[[service.generation]]`.
    pub(crate) fn generation<A: Display>(mut self, id: u64, addresses: impl IntoIterator<Item = A>) -> Self {
        self.generations.push((id, list(addresses)));
        self
    }

    /// One more `[[service.generation]]`, its backends as TOML.
    pub(crate) fn generation_of(mut self, id: u64, backends: &str) -> Self {
        self.generations.push((id, backends.to_owned()));
        self
    }
}

fn list<A: Display>(addresses: impl IntoIterator<Item = A>) -> String {
    let mut list = String::from("[");
    for address in addresses {
        write!(list, "\"{address}\", ").unwrap();
    }
    list + "]"
}

impl Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[service]]")?;
        for (key, value) in &self.keys {
            writeln!(f, "{key} = {value}")?;
        }
        for (id, backends) in &self.generations {
            writeln!(f, "[[service.generation]]\nid = {id}\nbackends = {backends}")?;
        }
        Ok(())
    }
}
