//! The proxies that are compared, each as an operator would set it up for sticky sessions, with one thread and an
//! access log.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running proxy.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Whether it learns sessions from answers, so that they have to be opened first.
    pub(crate) learns: bool,
    /// Where its access log is, and what a line of it says when the session was found; empty where it says nothing.
    pub(crate) log: PathBuf,
    pub(crate) mark: &'static str,
    process: Process,
}

/// Killed when it is dropped.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process on one core. Its output goes to a file in `folder`.
pub(crate) fn pinned(core: usize, program: &Path, arguments: &[&str], folder: &Path, name: &str) -> Child {
    let output = folder.join(format!("{name}.out"));
    let output = File::options().append(true).create(true).open(output).expect("the folder can be written");
    Command::new("taskset")
        .args(["-c", &core.to_string()])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a descriptor can be copied"))
        .stderr(output)
        .spawn()
        .expect("taskset is installed (package util-linux)")
}

fn installed(program: &str) -> Option<PathBuf> {
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
    folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists())
}

/// The program under test, in the profile of this bench. `TIDEGATE_BIN` names another build of it.
pub(crate) fn tidegate() -> PathBuf {
    std::env::var_os("TIDEGATE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_tidegate").into(), PathBuf::from)
}

/// Where everything stands.
pub(crate) struct Setup<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) core: usize,
    pub(crate) origins: [SocketAddr; 2],
    pub(crate) free: fn() -> SocketAddr,
}

impl Setup<'_> {
    /// All that are installed.
    pub(crate) fn start(&self) -> Vec<Peer> {
        let mut peers = vec![self.forwarder(), self.tidegate()];
        match installed("haproxy") {
            Some(program) => peers.extend([self.haproxy_stick(&program), self.haproxy_cookie(&program)]),
            None => println!("HAProxy is not installed (apt install haproxy): left out."),
        }
        match installed("nginx") {
            Some(program) => peers.push(self.nginx(&program)),
            None => println!("nginx is not installed (apt install nginx-light): left out."),
        }
        peers
    }

    fn peer(&self, name: &'static str, program: &Path, file: &str, arguments: &[&str], address: SocketAddr) -> Peer {
        let process = Process(pinned(self.core, program, arguments, self.folder, file));
        let log = self.folder.join(format!("{file}.log"));
        Peer { name, address, learns: false, log, mark: "", process }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("the folder can be written");
        path.display().to_string()
    }

    fn forwarder(&self) -> Peer {
        let address = (self.free)();
        let own = std::env::current_exe().expect("this program has a path");
        let (here, there) = (address.to_string(), self.origins[0].to_string());
        self.peer("bare TCP forwarder", &own, "forwarder", &["forward", &here, &there], address)
    }

    fn tidegate(&self) -> Peer {
        let (address, admin, [a, b], folder) = ((self.free)(), (self.free)(), self.origins, self.folder.display());
        let file = self.write(
            "tidegate.toml",
            &format!(
                "[gateway]\nlisten = [\"{address}\"]\nadmin = \"{admin}\"\nstate = \"{folder}/state\"\nthreads = 1\n\
                 access_log = \"{folder}/tidegate.log\"\n\n\
                 [[service]]\nname = \"app\"\nsession = {{ cookie = \"sid\", end = [{{ path = \"/logout\" }}] }}\n\
                 backends = [\"{a}\", \"{b}\"]\n"
            ),
        );
        let mut peer = self.peer("Tidegate", &tidegate(), "tidegate", &["run", "--config", &file], address);
        (peer.learns, peer.mark) = (true, "session=bound");
        peer
    }

    /// HAProxy writes its log to standard output, which [`pinned`] sends to a file.
    fn haproxy(&self, file: &str, backend: &str) -> (String, SocketAddr) {
        let (address, [a, b]) = ((self.free)(), self.origins);
        let text = format!(
            "global\n  nbthread 1\n  maxconn 4000\n  log stdout format raw local0 info\n\
             defaults\n  mode http\n  log global\n  option httplog\n  option forwardfor\n  timeout connect 5s\n  \
             timeout client 75s\n  timeout server 60s\n  timeout tunnel 1h\n\
             frontend front\n  bind {address}\n  default_backend app\n\
             backend app\n{backend}"
        );
        let text = text.replace("{a}", &a.to_string()).replace("{b}", &b.to_string());
        (self.write(file, &text), address)
    }

    fn haproxy_stick(&self, program: &Path) -> Peer {
        let backend = "  stick-table type string len 32 size 1m expire 30m\n  stick match req.cook(sid)\n  \
                       stick store-response res.cook(sid)\n  server a {a}\n  server b {b}\n";
        let (file, address) = self.haproxy("stick.cfg", backend);
        let mut peer = self.peer("HAProxy, stick table", program, "stick", &["-db", "-f", &file], address);
        (peer.learns, peer.log) = (true, self.folder.join("stick.out"));
        peer
    }

    fn haproxy_cookie(&self, program: &Path) -> Peer {
        let backend = "  cookie SRV insert indirect nocache\n  server a {a} cookie a\n  server b {b} cookie b\n";
        let (file, address) = self.haproxy("cookie.cfg", backend);
        let mut peer = self.peer("HAProxy, cookie", program, "cookie", &["-db", "-f", &file], address);
        // "VN": the cookie was valid, none was inserted.
        (peer.log, peer.mark) = (self.folder.join("cookie.out"), "--VN");
        peer
    }

    fn nginx(&self, program: &Path) -> Peer {
        let (address, [a, b], folder) = ((self.free)(), self.origins, self.folder.display());
        let file = self.write(
            "nginx.conf",
            &format!(
                "daemon off;\nmaster_process off;\nworker_processes 1;\npid {folder}/nginx.pid;\n\
                 error_log {folder}/nginx.err;\nevents {{ worker_connections 4096; }}\n\
                 http {{\n  access_log {folder}/nginx.log combined;\n  keepalive_requests 1000000000;\n  \
                 client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n  \
                 fastcgi_temp_path {folder}/f;\n  uwsgi_temp_path {folder}/u;\n  scgi_temp_path {folder}/s;\n  \
                 upstream app {{\n    hash $cookie_sid consistent;\n    server {a};\n    server {b};\n    \
                 keepalive 256;\n    keepalive_requests 1000000000;\n  }}\n  \
                 server {{\n    listen {address};\n    location / {{\n      proxy_pass http://app;\n      \
                 proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      \
                 proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n      \
                 proxy_buffers 16 16k;\n    }}\n  }}\n}}\n"
            ),
        );
        self.peer("nginx, hash of the cookie", program, "nginx", &["-c", &file], address)
    }
}

impl Peer {
    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}
