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
