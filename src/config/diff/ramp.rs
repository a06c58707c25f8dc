//! What a reload changes about ramps and forced sessions.

use super::Changes;
use crate::config::model::{Force, WHOLE};

/// Old and new of both keys. A secret is never told, only that it is another one.
pub(super) fn ramp(changes: &mut Changes, name: &str, rollout: (u8, u8), force: (Option<&Force>, Option<&Force>)) {
    changes.compare(&format!("service {name}: rollout"), &rollout.0, &rollout.1, |share| format!("{share}%"));
    if rollout.0 < WHOLE && rollout.1 == WHOLE {
        changes.add(format!("service {name}: a generation that is ready is promoted"));
    }
    let key = format!("service {name}: force");
    match force {
        (Some(old), Some(new)) => {
            changes.compare(&key, &places(old), &places(new), Clone::clone);
            if old.secret != new.secret {
                changes.add(format!("{key}: another secret, tokens of the former one no longer count"));
            }
        }
        (old, new) => {
            let shown = |force: Option<&Force>| force.map_or_else(|| "none".to_owned(), places);
            changes.compare(&key, &shown(old), &shown(new), Clone::clone);
        }
    }
}

fn places(force: &Force) -> String {
    let Force { cookie, header, query, secret: _ } = force;
    let cookie = cookie.as_ref().map(|name| format!("cookie {name}"));
    let header = header.as_ref().map(|name| format!("header {name}"));
    let query = query.as_ref().map(|key| format!("query {key}"));
    [cookie, header, query].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use crate::config::{diff::diff, parse};

    #[test]
    fn shares_and_places_are_told_and_no_secret() {
        let model = |keys: &str| {
            let text = format!("[[service]]\nname = \"app\"\nbackends = [\"127.0.0.1:1\"]\n{keys}");
            parse("t.toml", &text).expect("the file is good").model
        };
        let told = |old: &str, new: &str| diff(&model(old), &model(new)).lines;
        assert_eq!(told("rollout = 10", "rollout = 50"), ["service app: rollout: 10% -> 50%"]);
        assert_eq!(
            told("rollout = 10", ""),
            ["service app: rollout: 10% -> 100%", "service app: a generation that is ready is promoted"]
        );
        let force = |keys: &str, secret: &str| format!("force = {{ {keys}, secret = \"{secret}-0123456789\" }}");
        let (one, other) = (force("cookie = \"try\"", "one-one"), force("cookie = \"try\"", "another"));
        assert_eq!(told("", &one), ["service app: force: none -> cookie try"]);
        assert_eq!(told(&one, ""), ["service app: force: cookie try -> none"]);
        assert_eq!(
            told(&one, &other),
            ["service app: force: another secret, tokens of the former one no longer count"]
        );
        let places = force("header = \"X-Try\", query = \"t\"", "one-one");
        assert_eq!(told(&one, &places), ["service app: force: cookie try -> header x-try, query t"]);
        assert!(told(&one, &one).is_empty());
    }
}
