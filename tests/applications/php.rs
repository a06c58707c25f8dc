//! PHP behind Apache httpd: `$_SESSION` in files, of which each version has its own.

use std::process::Command;

use crate::curl::Curl;
use crate::program::{Program, source, system};
use crate::walk::{Client, Stage, counts, walk};

async fn php(instance: &str) -> Program {
    let fastcgi = Program::start(|address, folder| {
        let mut command = Command::new(system("/usr/bin/php-cgi", "php-cgi"));
        command
            .args(["-b", &address.to_string(), "-d", "session.use_strict_mode=1", "-d"])
            .arg(format!("session.save_path={}", folder.display()))
            .env("PHP_FCGI_CHILDREN", "2")
            .env("INSTANCE", instance);
        command
    });
    let httpd = Program::start(|address, folder| {
        let mut command = Command::new(system("/usr/sbin/apache2", "apache2-bin"));
        command
            .args(["-D", "FOREGROUND", "-f"])
            .arg(source("php/httpd.conf"))
            .env("ADDRESS", address.to_string())
            .env("FASTCGI", fastcgi.address.to_string())
            .env("SCRIPT", source("php/index.php"))
            .env("FOLDER", folder);
        command
    });
    httpd.with(fastcgi).ready("/").await
}

#[tokio::test]
async fn php_sessions_go_on_through_a_roll() {
    let (old, new) = (php("old").await, php("new").await);
    let mut stage = Stage::set("preset = \"php\"", old, new).await;
    let (mut early, mut late) = (Curl::new(stage.address()), Curl::new(stage.address()));
    walk(&mut stage, &mut early, &mut late, &["open"]).await;

    // Each login gave the session another id, and it was the same session.
    let before = early.cookie("PHPSESSID").unwrap();
    early.act("open").await;
    assert_ne!(early.cookie("PHPSESSID").unwrap(), before, "PHP changes the id");
    early.act("leave").await;
    assert_eq!(early.cookie("PHPSESSID"), None, "PHP deletes the cookie");
    // Without affinity there is no session: the file lies with the other version.
    counts(&mut late, "new", 3).await;
    assert_eq!(late.past_the_gateway(stage.old.address).post("/count").0, 401);
}
