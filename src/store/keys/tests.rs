use std::fs;

use proptest::prelude::*;

use super::*;
use crate::store::Store;
use crate::store::directory::Directory;

const DAY: u64 = 24 * 3_600;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn keys(directory: &Path, life: u64, now: u64) -> SealingKeys {
    own(directory, Duration::from_secs(life), at(now)).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_key_is_made_once_and_stays_over_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("state");
    let ask = |store: &Directory| store.sealing_keys(Duration::from_secs(60), at(1_000)).unwrap();
    let store = Directory::open(&state).unwrap();
    let first = ask(&store);
    assert!(first.others.is_empty());
    assert_eq!(ask(&store), first);
    drop(store);
    assert_eq!(ask(&Directory::open(&state).unwrap()), first);
    assert_eq!((mode(&state.join("keys")), mode(&state.join("keys/current"))), (0o700, 0o600));
}

#[test]
fn a_key_is_changed_when_it_is_old_and_the_one_before_it_goes_on_opening() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("keys");
    let first = keys(&path, 60, 1_000);
    assert_eq!(keys(&path, 60, 1_000 + DAY - 1), first);
    let second = keys(&path, 60, 1_000 + DAY);
    assert_ne!(second.first, first.first);
    assert_eq!(second.others, std::slice::from_ref(&first.first));
    assert_eq!(keys(&path, 60, 1_000 + DAY), second);
    assert_eq!(mode(&path.join("former")), 0o600);
    let third = keys(&path, 60, 1_000 + 2 * DAY);
    assert_eq!(third.others, [second.first]);
    // A clock that goes back changes nothing.
    assert_eq!(keys(&path, 60, 0), third);
}

#[test]
fn a_key_goes_on_opening_as_long_as_a_ticket_of_it_can_be_good() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path();
    let first = keys(path, 30 * DAY, 0);
    assert_eq!(keys(path, 30 * DAY, 30 * DAY - 1), first);
    // The life is made shorter: what was sealed on the last day before is good for 30 more.
    assert_eq!(keys(path, DAY, 30 * DAY - 1), first);
    let second = keys(path, DAY, 30 * DAY);
    assert_eq!(second.others, std::slice::from_ref(&first.first));
    assert_eq!(keys(path, DAY, 60 * DAY - 1), second);
    let third = keys(path, DAY, 60 * DAY);
    assert_eq!(third.others, std::slice::from_ref(&second.first));
    assert_ne!(keys(path, DAY, 61 * DAY).first, third.first);
}

#[test]
fn a_longer_life_is_written_down_before_anything_is_sealed_for_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path();
    let first = keys(path, 60, 0);
    assert_eq!(keys(path, 10 * DAY, DAY / 2), first);
    assert_eq!(keys(path, 60, 9 * DAY), first);
    assert_ne!(keys(path, 60, 10 * DAY), first);
}

#[test]
fn a_change_that_was_cut_short_is_finished() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path();
    let first = keys(path, 60, 0);
    fs::copy(path.join("current"), path.join("former")).unwrap();
    let second = keys(path, 60, DAY);
    assert_ne!(second.first, first.first);
    assert_eq!(second.others, [first.first]);
}

#[test]
fn a_broken_key_is_not_replaced() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path();
    keys(path, 60, 0);
    keys(path, 60, DAY);
    for name in ["current", "former"] {
        let whole = fs::read(path.join(name)).unwrap();
        for broken in [&b""[..], b"\xff", b"00 1 2", &whole[..64], &whole[..66], &whole[2..]] {
            fs::write(path.join(name), broken).unwrap();
            let error = own(path, Duration::ZERO, at(DAY)).unwrap_err();
            assert!(matches!(&error, StoreError::Secret { path, .. } if path.ends_with(name)), "{error}");
            assert_eq!(fs::read(path.join(name)).unwrap(), broken);
        }
        fs::write(path.join(name), whole).unwrap();
    }
}

const HEX: &str = "fbff000102030405060708090a0b0c0d0e0f101112131415161718191a1b1cff";

fn bytes() -> [u8; BYTES] {
    hex(HEX.as_bytes()).unwrap()
}

#[test]
fn key_files_as_operators_write_them() {
    let root = tempfile::tempdir().unwrap();
    let base64 = "+/8AAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHP8=";
    for text in [
        HEX.to_owned(),
        format!("{HEX}\n"),
        format!(" {}\r\n", HEX.to_uppercase()),
        base64.to_owned(),
        format!("{base64}\n"),
        base64.trim_end_matches('=').to_owned(),
        base64.replace('+', "-").replace('/', "_"),
    ] {
        let path = root.path().join("key");
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let read = read_files(std::slice::from_ref(&path)).unwrap().unwrap();
        assert_eq!(read.keys, SealingKeys { first: SealingKey(bytes()), others: vec![] }, "{text:?}");
        assert_eq!(read.warnings, Vec::<String>::new());
    }
}

#[test]
fn key_files_that_hold_none() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("key");
    for (text, problem) in [
        (&b""[..], "is empty"),
        (b" \n", "is empty"),
        (&HEX.as_bytes()[2..], "a key of 31 bytes"),
        (b"00112233445566778899aabbccddeeff", "a key of 16 bytes"),
        (b"AAECAwQFBgcICQoLDA0ODw==", "a key of 16 bytes"),
        (b"a passphrase", "neither hexadecimal digits nor base64"),
        (&[0xfe; 32], "neither hexadecimal digits nor base64"),
        (&[b'A'; 2_000], "more than any key"),
    ] {
        fs::write(&path, text).unwrap();
        let error = read_files(std::slice::from_ref(&path)).unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains(path.to_str().unwrap()), "{error}");
        assert!(error.contains("openssl rand -hex 32"), "{error}");
    }
    for (name, problem) in [("missing", "does not exist"), ("", "is no file")] {
        let error = read_files(&[root.path().join(name)]).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn the_first_file_seals_and_open_ones_are_told() {
    let root = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = [("a", 0o600), ("b", 0o644), ("c", 0o600)]
        .into_iter()
        .enumerate()
        .map(|(number, (name, mode))| {
            let path = root.path().join(name);
            fs::write(&path, secret::hex(&[number as u8; BYTES])).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        })
        .collect();
    let read = read_files(&paths).unwrap().unwrap();
    let key = |number| SealingKey([number; BYTES]);
    assert_eq!(read.keys, SealingKeys { first: key(0), others: vec![key(1), key(2)] });
    assert_eq!(read.warnings.len(), 1);
    assert!(read.warnings[0].contains(paths[1].to_str().unwrap()), "{:?}", read.warnings);
    assert_eq!(read_files(&[]).unwrap(), None);
    assert!(read_files(&[paths[0].clone(), root.path().join("missing")]).is_err());
    assert_eq!(format!("{:?}", key(0xab)), "SealingKey(..)");
}

proptest! {
    #[test]
    fn no_file_is_too_strange(text in prop::collection::vec(any::<u8>(), 0..100), key in any::<[u8; BYTES]>()) {
        let _ = decode(text.trim_ascii());
        prop_assert_eq!(decode(secret::hex(&key).as_bytes()), Ok(SealingKey(key)));
        prop_assert_eq!(decode(BASE64.encode(key).as_bytes()), Ok(SealingKey(key)));
    }
}
