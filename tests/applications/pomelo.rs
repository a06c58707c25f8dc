//! The chat of pomelo's guide: connectors by user, chat servers by room, and a roll of both while people talk.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use crate::driver::{Driven, Driver};
use crate::program::{Program, node};
use crate::support::{File, Gateway, Status};
use crate::walk::Client;

/// Three connectors and three chat servers of one version, `v1-connector-1` and so on.
struct Version(Vec<Program>);

impl Version {
    async fn start(version: &str) -> Self {
        let mut programs = Vec::new();
        for kind in ["connector", "chat"] {
            for number in 1..=3 {
                let start = |address: SocketAddr, _: &Path| {
                    let mut command = node("socketio/server.js");
                    command.args([address.port().to_string(), format!("{version}-{kind}-{number}")]);
                    command
                };
                programs.push(Program::start(start));
            }
        }
        let mut ready = Vec::new();
        for program in programs {
            ready.push(program.ready("/").await);
        }
        Self(ready)
    }

    /// The example's file of servers, with the addresses of these.
    fn servers(&self) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/pomelo/servers.toml");
        let text = fs::read_to_string(path).unwrap();
        let ports = [3050, 3051, 3052, 6050, 6051, 6052];
        let text = ports.iter().zip(&self.0).fold(text, |text, (port, program)| {
            let address = format!("127.0.0.1:{port}");
            assert!(text.contains(&address), "the example names {address}");
            text.replace(&address, &program.address.to_string())
        });
        assert!(text.contains("\"10s\""));
        format!("\n{}", text.replace("\"10s\"", "\"1s\""))
    }
}

/// Asserts where the sockets of a user are: the version and the number of the connector, and of the chat server.
async fn at(user: &mut Driven, what: &str, connector: (&str, u32), chat: (&str, u32)) {
    let answer = user.act(what).await;
    let expected = json!({
        "connector": format!("{}-connector-{}", connector.0, connector.1),
        "at": format!("{}-chat-{}", chat.0, chat.1),
    });
    assert_eq!(answer, expected, "{what}");
}

/// One says something, and the others hear it, and nothing else.
async fn talk<const N: usize>(one: &mut Driven, uid: &str, others: [&mut Driven; N]) {
    one.act("say").await;
    for other in others {
        assert_eq!(other.act("hear").await, json!({ "heard": [uid] }));
    }
}

fn is(status: &Status, generation: u64, state: &str) -> bool {
    ["connector", "chat", "gate"].iter().all(|service| status.state(service, generation) == state)
}

#[tokio::test]
async fn users_and_rooms_are_dispatched_as_pomelo_does_through_a_roll() {
    let old = Version::start("v1").await;
    let mut file = File::new([]);
    file.tail = old.servers();
    let mut gateway = Gateway::ready(file.clone()).await;
    let mut command = node("pomelo/client.js");
    command.arg(format!("http://{}", gateway.address));
    let driver = Driver::start(command);
    let user = |name| driver.client(name);

    // `Math.abs(crc.crc32(key)) % 3` in node, as in `tests/balance.rs`; servers are counted from one.
    let [mut a, mut b] = [user("user1@white"), user("user4@white")];
    let [mut c, mut d] = [user("1@red"), user("7@red")];
    let [mut e, mut f] = [user("42@lobby"), user("2@lobby")];
    at(&mut a, "enter", ("v1", 1), ("v1", 1)).await;
    at(&mut b, "enter", ("v1", 2), ("v1", 1)).await;
    at(&mut c, "enter", ("v1", 3), ("v1", 2)).await;
    at(&mut d, "enter", ("v1", 1), ("v1", 2)).await;
    at(&mut e, "enter", ("v1", 3), ("v1", 3)).await;
    at(&mut f, "enter", ("v1", 2), ("v1", 3)).await;
    // The gate names the connector to which the gateway itself leads.
    let port = |place: usize| json!({ "host": "127.0.0.1", "port": old.0[place].address.port(), "generation": 1 });
    assert_eq!([a.act("gate").await, b.act("gate").await, c.act("gate").await], [port(0), port(1), port(2)]);
    talk(&mut a, "user1", [&mut b]).await;
    talk(&mut d, "7", [&mut c]).await;
    talk(&mut e, "42", [&mut f]).await;
    assert_eq!(a.act("count").await["count"], 1);

    let new = Version::start("v2").await;
    file.tail = new.servers();
    gateway.write(file);
    gateway.hup().await.unwrap();
    gateway.until("both have rolled", |status| is(status, 2, "active")).await;

    // Who is inside stays and is heard; who enters such a room meets them, by a connector of the new version.
    let mut g = user("user-9@white");
    at(&mut g, "enter", ("v2", 1), ("v1", 1)).await;
    talk(&mut g, "user-9", [&mut a, &mut b]).await;
    assert_eq!(g.act("gate").await["port"], new.0[0].address.port(), "the gate names new connectors");
    talk(&mut c, "1", [&mut d]).await;
    talk(&mut f, "2", [&mut e]).await;
    assert_eq!(a.act("count").await["count"], 2);
    at(&mut a, "places", ("v1", 1), ("v1", 1)).await;
    // A room that nobody is in opens on the new one.
    let [mut h, mut i] = [user("9@black"), user("5@black")];
    at(&mut h, "enter", ("v2", 2), ("v2", 1)).await;
    at(&mut i, "enter", ("v2", 1), ("v2", 1)).await;
    talk(&mut h, "9", [&mut i]).await;

    // The last of the old rooms is left.
    for user in [&mut a, &mut b, &mut c, &mut d, &mut e, &mut f] {
        user.act("leave").await;
    }
    gateway
        .until("the old rooms but one are empty", |status| status.generation("chat", 1).unwrap().sessions == 1)
        .await;
    talk(&mut h, "9", [&mut i]).await;
    g.act("leave").await;
    gateway.until("chat@1 is retired", |status| status.state("chat", 1) == "retired").await;
    at(&mut g, "enter", ("v2", 1), ("v2", 1)).await;
    at(&mut c, "enter", ("v2", 3), ("v2", 2)).await;
    talk(&mut h, "9", [&mut i]).await;
}
