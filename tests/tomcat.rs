//! A real servlet container: two of Debian's Tomcat 10 with a session application, and rolls from one to the other.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::{File, Gateway, Message, Service, Wire, base_port, eventually, free_address, lives};
use tempfile::TempDir;

const HOME: &str = "/usr/share/tomcat10";

/// Two versions of an application in one process.
const VERSIONS: [&str; 2] = ["app-7", "app-8"];

/// The same application three times: bare, with a rule in the gateway's file, with the filter from the examples.
const CONTEXTS: [&str; 3] = ["bare", "ruled", "filtered"];

/// A Tomcat of its own, killed when it is dropped.
struct Tomcat {
    child: Child,
    base: TempDir,
    address: SocketAddr,
    /// The context that is asked whether it serves.
    last: &'static str,
}

fn compiler(arguments: &[&Path]) -> Command {
    let mut command = Command::new("javac");
    let classes = Path::new(HOME).join("lib/servlet-api.jar");
    command.arg("-nowarn").arg("-cp").arg(classes).arg("-d").args(arguments);
    command
}

fn compile(into: &Path, sources: &[PathBuf]) {
    let mut arguments = vec![into];
    arguments.extend(sources.iter().map(PathBuf::as_path));
    let output = compiler(&arguments).output().expect("javac runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Fails, and says what to do, on a machine that lacks what this test is about.
fn require() {
    let has_tomcat = Path::new(HOME).join("bin/bootstrap.jar").exists();
    let has_compiler = Command::new("javac").arg("-version").output().is_ok_and(|output| output.status.success());
    assert!(
        has_tomcat && has_compiler,
        "this test runs real Tomcats: `apt-get install tomcat10-common default-jdk-headless` (tests/run does it)"
    );
}

impl Tomcat {
    /// Lays a folder out and starts an instance on it.
    fn start(name: &str, contexts: &[&'static str], classes: &Path, filter: &Path) -> Self {
        let base = TempDir::new().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for folder in ["conf", "logs", "temp", "work"] {
            fs::create_dir(base.path().join(folder)).unwrap();
        }
        for file in ["server.xml", "web.xml"] {
            fs::copy(root.join("tests/tomcat").join(file), base.path().join("conf").join(file)).unwrap();
        }
        for context in contexts {
            let folder = base.path().join("webapps").join(context);
            let into = folder.join("WEB-INF/classes");
            fs::create_dir_all(&into).unwrap();
            fs::copy(root.join("tests/tomcat/page.jsp"), folder.join("page.jsp")).unwrap();
            copy(classes, &into);
            if *context == "filtered" {
                copy(filter, &into);
            }
        }
        let address = free_address();
        let output = fs::File::create(base.path().join("logs/output")).unwrap();
        let bin = Path::new(HOME).join("bin");
        let class_path = format!("{}:{}", bin.join("bootstrap.jar").display(), bin.join("tomcat-juli.jar").display());
        let child = Command::new("java")
            .args(["-Xmx96m", "-XX:TieredStopAtLevel=1", "-Djava.security.egd=file:/dev/urandom"])
            .arg(format!("-Dcatalina.home={HOME}"))
            .arg(format!("-Dcatalina.base={}", base.path().display()))
            .arg(format!("-Djava.io.tmpdir={}", base.path().join("temp").display()))
            .arg(format!("-Dport={}", address.port()))
            .arg(format!("-Dinstance={name}"))
            .arg("-cp")
            .arg(class_path)
            .args(["org.apache.catalina.startup.Bootstrap", "start"])
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("java runs");
        Self { child, base, address, last: contexts.last().expect("a context") }
    }

    async fn ready(&self) {
        eventually("Tomcat serves", async || {
            let mut wire = Wire::connect(self.address).await.map_err(|error| format!("{error}\n{}", self.log()))?;
            let answer = wire.get(&format!("/{}/logout", self.last)).await;
            if answer.status() == 200 { Ok(()) } else { Err(format!("{answer:?}\n{}", self.log())) }
        })
        .await;
    }

    fn log(&self) -> String {
        fs::read_to_string(self.base.path().join("logs/output")).unwrap_or_default()
    }
}

impl Drop for Tomcat {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- Tomcat's log ---\n{}", self.log());
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let mut count = 0;
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        count += 1;
    }
    assert!(count > 0, "{} is empty", from.display());
}

/// A browser in one of the contexts.
struct User {
    context: &'static str,
    wire: Wire,
    id: Option<String>,
}

impl User {
    async fn new(gateway: &Gateway, context: &'static str) -> Self {
        Self { context, wire: Wire::open(gateway.address).await, id: None }
    }

    fn target(&self, page: &str) -> String {
        if self.context.is_empty() { format!("/{page}") } else { format!("/{}/{page}", self.context) }
    }

    async fn get(&mut self, page: &str) -> Message {
        let cookie = self.id.as_ref().map_or_else(String::new, |id| format!("Cookie: JSESSIONID={id}\r\n"));
        let answer = self.wire.ask("GET", &self.target(page), &cookie).await;
        if let Some(cookie) = answer.head.get("set-cookie") {
            let id = cookie.split([';', '=']).nth(1).unwrap();
            assert!(cookie.starts_with("JSESSIONID=") && !id.is_empty(), "{cookie}");
            self.id = Some(id.to_owned());
        }
        assert_eq!(
            answer.head.all("tidegate-session"),
            Vec::<&str>::new(),
            "the field goes no further than the gateway"
        );
        answer
    }

    /// Asks for a page and returns the instance that answered.
    async fn at(&mut self, page: &str) -> String {
        let answer = self.get(page).await;
        assert_eq!(answer.status(), 200, "{page}: {answer:?}");
        answer.json()["backend"].as_str().unwrap().to_owned()
    }

    async fn count(&mut self) -> (String, u64) {
        let json: Value = self.get("count").await.json();
        (json["backend"].as_str().unwrap().to_owned(), json["count"].as_u64().unwrap())
    }
}

fn services(tomcat: &Tomcat) -> Vec<Service> {
    let service = |context: &&str| {
        let end = if *context == "ruled" { ", end = [{ path = \"/ruled/logout\" }]" } else { "" };
        Service::new(context)
            .set("path", format!("\"/{context}\""))
            .session(&format!("preset = \"servlet\"{end}"))
            .backends([tomcat.address])
    };
    CONTEXTS.iter().map(service).collect()
}

#[tokio::test]
async fn servlet_sessions_stay_over_a_roll_and_move_on_after_logout() {
    require();
    let folder = TempDir::new().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (classes, filter) = (folder.path().join("classes"), folder.path().join("filter"));
    compile(&classes, &[root.join("tests/tomcat/SessionServlet.java")]);
    compile(&filter, &[root.join("config/examples/servlet/TidegateSessionFilter.java")]);
    let start = |name| Tomcat::start(name, &CONTEXTS, &classes, &filter);
    let (old, new) = (start("old"), start("new"));
    old.ready().await;
    new.ready().await;
    let mut gateway = Gateway::ready(File::new(services(&old))).await;

    // Learned, by servlet and by JSP; the id changes at the login and the session stays the same.
    let mut users = Vec::new();
    for context in CONTEXTS {
        let mut user = User::new(&gateway, context).await;
        assert_eq!(user.at("start").await, "old");
        let first = user.id.clone().expect("Tomcat sets a cookie");
        assert_eq!(user.at("login").await, "old");
        assert_ne!(user.id.as_ref(), Some(&first), "Tomcat changes the id");
        assert_eq!(user.count().await, ("old".to_owned(), 1));
        users.push(user);
    }
    let mut reader = User::new(&gateway, "bare").await;
    assert_eq!(reader.at("page.jsp").await, "old");
    assert!(reader.id.is_some(), "a JSP opens a session unasked");
    let mut renewing = User::new(&gateway, "filtered").await;
    assert_eq!(renewing.at("start").await, "old");
    let sessions = |status: &support::Status, context: &str, number: u64| {
        status.generation(context, number).map_or(0, |generation| generation.sessions)
    };
    let status = gateway.status().await;
    assert_eq!(CONTEXTS.map(|context| sessions(&status, context, 1)), [2, 1, 2], "a changed id counts once");

    gateway.reload(services(&new)).await;
    gateway
        .until("all three have rolled", |status| CONTEXTS.iter().all(|context| status.active(context) == Some(2)))
        .await;

    // Everyone stays, also over another change of the id; new ones begin on the new instance.
    for (user, count) in users.iter_mut().zip([2, 2, 2]) {
        assert_eq!(user.count().await, ("old".to_owned(), count));
        assert_eq!(user.at("login").await, "old");
        assert_eq!(user.count().await, ("old".to_owned(), count + 1));
        let mut stranger = User::new(&gateway, user.context).await;
        assert_eq!(stranger.at("start").await, "new");
        assert_eq!(stranger.at("login").await, "new");
        assert_eq!(stranger.count().await, ("new".to_owned(), 1));
    }
    assert_eq!(reader.at("page.jsp").await, "old");
    // Without cookies the container takes the id from the path, and so does the gateway; its redirects carry it along.
    let id = reader.id.take().unwrap();
    let answer = reader.get(&format!("page.jsp;jsessionid={id}")).await;
    assert_eq!(answer.json()["backend"], "old");
    assert_eq!(reader.id, None, "the container knows it by the path");
    let [mut bare, mut ruled, mut filtered]: [User; 3] = users.try_into().ok().unwrap();

    // A logout that a rule of the file names: Tomcat leaves the cookie in the browser, the next request moves on.
    assert_eq!(ruled.at("logout").await, "old");
    assert_eq!(ruled.at("start").await, "new");
    assert_eq!(ruled.at("count").await, "new");
    gateway.until("ruled@1 is retired", |status| status.state("ruled", 1) == "retired").await;

    // A logout that the filter reports.
    assert_eq!(filtered.at("logout").await, "old");
    assert_eq!(filtered.at("start").await, "new");
    // A session that is replaced by another in one request is no renamed one.
    assert_eq!(renewing.at("renew").await, "old");
    assert_eq!(renewing.at("start").await, "new");
    gateway.until("filtered@1 is retired", |status| status.state("filtered", 1) == "retired").await;

    // Nobody reports this one: the next id looks like a change of the id, and the client stays where it is.
    assert_eq!(bare.at("logout").await, "old");
    assert_eq!(bare.at("start").await, "old");
    assert_eq!(bare.at("count").await, "old");
    let status = gateway.status().await;
    assert_eq!((status.state("bare", 1), sessions(&status, "bare", 1)), ("detached", 2));
}

/// What Tomcat says of a context, seen from outside.
async fn visit(wire: &mut Wire, target: &str, id: Option<&str>) -> Message {
    let cookie = id.map_or_else(String::new, |id| format!("Cookie: JSESSIONID={id}\r\n"));
    wire.ask("GET", target, &cookie).await
}

#[tokio::test]
async fn two_contexts_of_one_tomcat_are_two_versions() {
    require();
    let folder = TempDir::new().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let classes = folder.path().join("classes");
    compile(&classes, &[root.join("tests/tomcat/SessionServlet.java")]);
    let tomcat = Tomcat::start("one", &VERSIONS, &classes, &classes);
    tomcat.ready().await;
    let service = |versions: &[u64]| {
        let service = Service::app().set("path", "\"/app\"").session("preset = \"servlet\"");
        let service = service.set("ready", "{ path = \"/logout\", interval = \"20ms\", timeout = \"40s\" }");
        versions.iter().fold(service, |service, version| {
            let backend = format!("[{{ address = \"{}\", prefix = \"/app-{version}\" }}]", tomcat.address);
            service.generation_of(*version, &backend)
        })
    };
    let mut gateway = Gateway::ready(File::new([service(&[7])])).await;
    let mut wire = Wire::open(gateway.address).await;
    let open = async |wire: &mut Wire| {
        let answer = visit(wire, "/app/start", None).await;
        let cookie = answer.head.get("set-cookie").unwrap_or_else(|| panic!("no cookie in {answer:?}"));
        let (id, attributes) = cookie.strip_prefix("JSESSIONID=").unwrap().split_once(';').unwrap();
        assert_eq!(attributes, " Path=/app; HttpOnly");
        id.to_owned()
    };
    let context = async |wire: &mut Wire, target: &str, id: Option<&str>| {
        let answer = visit(wire, target, id).await;
        assert_eq!(answer.status(), 200, "{target}: {answer:?}");
        answer.json()["context"].as_str().unwrap().to_owned()
    };
    let seven = open(&mut wire).await;
    gateway.sessions(7, 1).await;
    gateway.reload([service(&[7, 8])]).await;
    gateway.active(8).await;
    let eight = open(&mut wire).await;
    assert_eq!(context(&mut wire, "/app/count", Some(&seven)).await, "/app-7");
    assert_eq!(context(&mut wire, "/app/count", Some(&eight)).await, "/app-8");
    // Tomcat's own redirects, and the application's, by cookie and by path.
    for id in [&seven, &eight] {
        let answer = visit(&mut wire, "/app", Some(id)).await;
        assert_eq!((answer.status(), answer.head.get("location")), (302, Some("/app/")), "{answer:?}");
        let answer = visit(&mut wire, "/app/away", Some(id)).await;
        assert_eq!((answer.status(), answer.head.get("location")), (302, Some("/app/count?x=/app")), "{answer:?}");
        let answer = visit(&mut wire, &format!("/app/away;jsessionid={id}"), None).await;
        assert_eq!(answer.head.get("location"), Some(format!("/app/count;jsessionid={id}?x=/app").as_str()));
    }
    assert_eq!(context(&mut wire, &format!("/app/count;jsessionid={seven}"), None).await, "/app-7");
    assert_eq!(context(&mut wire, "/app/logout", None).await, "/app-8");
    // Tomcat takes the parameter off before it looks at the dots: the neighbour would answer.
    for way in ["/app/../app-7/logout", "/app/..;x/app-7/logout", "/app/%2e%2e/app-7/logout"] {
        assert_eq!(visit(&mut wire, way, None).await.status(), 400, "{way}");
    }
    // The id changes at the login within its context.
    let answer = visit(&mut wire, "/app/login", Some(&seven)).await;
    assert_eq!(answer.json()["context"], "/app-7");
    gateway.sessions(7, 1).await;
    gateway.sessions(8, 1).await;
}

/// The file of `config/examples/workers`, with Tomcats that the gateway runs.
#[tokio::test]
async fn tomcats_as_workers() {
    require();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let example = root.join("config/examples/workers");
    let folder = TempDir::new().unwrap();
    let base = folder.path().join("base");
    let classes = base.join("webapps/ROOT/WEB-INF/classes");
    for part in ["conf", "logs", "webapps/ROOT/WEB-INF/classes", "work"] {
        fs::create_dir_all(base.join(part)).unwrap();
    }
    fs::copy(example.join("tomcat/server.xml"), base.join("conf/server.xml")).unwrap();
    fs::copy(root.join("tests/tomcat/web.xml"), base.join("conf/web.xml")).unwrap();
    compile(
        &classes,
        &[
            root.join("tests/tomcat/SessionServlet.java"),
            root.join("config/examples/servlet/TidegateSessionFilter.java"),
        ],
    );
    let mut text = fs::read_to_string(example.join("tomcat.toml")).unwrap();
    text = text[text.find("[[service]]").expect("it has a service")..].to_owned();
    let place = |name: &str| folder.path().join(name).display().to_string();
    for (from, to) in [
        ("-Xmx512m", "-Xmx96m\", \"-XX:TieredStopAtLevel=1\", \"-Dinstance={generation}".to_owned()),
        ("/srv/shop/current", place("base")),
        ("/var/cache/shop", place("base/work")),
        ("java.io.tmpdir=/tmp", format!("java.io.tmpdir={}", folder.path().display())),
        ("http = 8800", format!("http = {}", base_port())),
        ("debug = 5100", format!("debug = {}", base_port())),
        ("user = \"tomcat\"\n", String::new()),
        ("/healthz", "/logout".to_owned()),
    ] {
        assert!(text.contains(from), "{from:?} is not in the example");
        text = text.replace(from, &to);
    }
    let mut file = File::new([]);
    file.tail = text;
    let gateway = Gateway::ready(file).await;
    let mut user = User::new(&gateway, "").await;
    assert_eq!(user.at("start").await, "1");
    assert_eq!(user.count().await, ("1".to_owned(), 1));
    let pid = gateway.status().await.pid("shop", 1);
    gateway.cli("roll shop").unwrap();
    gateway.until("the next one is active", |status| status.active("shop") == Some(2)).await;
    assert_eq!(user.count().await, ("1".to_owned(), 2));
    user.at("logout").await;
    gateway.until("the former one is retired", |status| status.state("shop", 1) == "retired").await;
    assert!(!lives(pid));
    assert_eq!(user.at("start").await, "2");
}
