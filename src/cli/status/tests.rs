use std::net::TcpListener;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::admin::{self, Source, api};
use crate::cli::ConfigArguments;
use crate::config::defaults;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn file(path: PathBuf) -> ConfigArguments {
    ConfigArguments { config: Some(path), profile: None }
}

fn arguments(admin: Option<&str>, token_file: Option<&Path>) -> StatusArguments {
    StatusArguments {
        json: false,
        config: file("/no/such/file.toml".into()),
        admin: admin.map(str::to_owned),
        token_file: token_file.map(Path::to_owned),
    }
}

#[test]
fn what_is_typed_goes_before_the_environment_and_the_file() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let (address, token) = target(arguments(Some("h:1"), Some(&file)), Some("x".repeat(16))).unwrap();
    assert_eq!((address.as_str(), token.reveal()), ("h:1", TOKEN));
    let (_, token) = target(arguments(Some("h:1"), None), Some(TOKEN.to_owned())).unwrap();
    assert_eq!(token.reveal(), TOKEN);
    let failure = target(arguments(Some("h:1"), None), None).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.message.contains("/no/such/file.toml"), "the token is looked for through the file");
}

#[test]
fn the_file_leads_to_both() {
    let place = TempDir::new().unwrap();
    let (file, state) = (place.path().join("a.toml"), place.path().join("state"));
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("admin-token"), format!("{TOKEN}\n")).unwrap();
    let text = format!(
        "[gateway]\nadmin = \"127.0.0.1:9190\"\nstate = {state:?}\n[[service]]\nname = \"app\"\nbackends = [\"127.0.0.1:1\"]\n"
    );
    std::fs::write(&file, text).unwrap();
    let typed = StatusArguments { config: self::file(file), ..arguments(None, None) };
    let (address, token) = target(typed, None).unwrap();
    assert_eq!((address.as_str(), token.reveal()), ("127.0.0.1:9190", TOKEN));
}

#[test]
fn the_file_names_address_and_token() {
    let gateway = |admin: Option<&str>, state| Gateway {
        admin: admin.map(|admin| admin.parse().unwrap()),
        state,
        ..defaults::gateway()
    };
    let path = Path::new("a.toml");
    let state = || StatePlace::Directory(PathBuf::from("/var/lib/tidegate"));
    for (admin, expected) in
        [("127.0.0.1:9180", "127.0.0.1:9180"), ("0.0.0.0:9180", "127.0.0.1:9180"), ("[::]:9180", "[::1]:9180")]
    {
        assert_eq!(admin_address(&gateway(Some(admin), state()), path).unwrap(), expected);
    }
    assert!(admin_address(&gateway(None, state()), path).unwrap_err().message.contains("`admin` is \"off\""));
    let directory = gateway(Some("127.0.0.1:9180"), state());
    assert_eq!(token_place(&directory, path).unwrap(), PathBuf::from("/var/lib/tidegate/admin-token"));
    let mut memory = gateway(Some("127.0.0.1:9180"), StatePlace::Memory);
    assert!(token_place(&memory, path).unwrap_err().message.contains("--token-file"));
    memory.token_file = Some(PathBuf::from("t"));
    assert_eq!(token_place(&memory, path).unwrap(), PathBuf::from("t"));
}

#[test]
fn errors_say_what_to_do() {
    let missing = bad_token(Token::read(Path::new("/no/such/token")).unwrap_err());
    assert!(missing.message.contains("/no/such/token") && missing.message.contains("first start"));
    // Bound and closed again: nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let place = TempDir::new().unwrap();
    let file = place.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    let failure = status(arguments(Some(&free), Some(&file))).unwrap_err();
    assert_eq!(failure.exit, Exit::Unreachable);
    for wanted in [free.as_str(), "refused", "is the gateway running"] {
        assert!(failure.message.contains(wanted), "{}", failure.message);
    }
}

struct Fixed;

impl Source for Fixed {
    fn status(&self) -> crate::admin::Answer<'_, Status> {
        Box::pin(async { Some(api::sample::status()) })
    }
    fn metrics(&self) -> admin::Answer<'_, String> {
        Box::pin(async { None })
    }
    fn events(&self) -> crate::admin::Answer<'_, Vec<api::Event>> {
        Box::pin(async { Some(Vec::new()) })
    }
    fn order(&self, _: api::Order) -> admin::Answer<'_, Result<api::Done, api::Denied>> {
        Box::pin(async { None })
    }
    fn ready(&self) -> bool {
        true
    }
}

#[test]
fn it_asks_a_real_gateway() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let token = Token::new(TOKEN).unwrap();
        tokio::spawn(admin::serve(listener, Arc::new(Fixed), token.clone(), std::future::pending()));
        let by_name = format!("localhost:{}", address.port());
        for address in [&address.to_string(), &by_name] {
            let answer = client::ask(Method::GET, address, &token, "/v1/status").await.unwrap();
            assert_eq!(serde_json::from_slice::<Status>(&answer).unwrap(), api::sample::status());
        }
        let failure =
            client::ask(Method::GET, &by_name, &Token::new(&"x".repeat(32)).unwrap(), "/v1/status").await.unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.message.contains("401") && failure.message.contains("not this gateway's token"));
    });
}
