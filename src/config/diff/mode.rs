//! What changes in what a service speaks, and where.

use super::Changes;
use crate::config::model::Mode;

pub(super) fn mode(changes: &mut Changes, service: &str, old: &Mode, new: &Mode) {
    if old.is_http() != new.is_http() {
        changes.add(format!("service {service}: mode: {old} -> {new}"));
    }
    for gone in old.listen().iter().filter(|address| !new.listen().contains(address)) {
        changes.add(format!("service {service}: listener {gone}: removed, its connections go on"));
    }
    for come in new.listen().iter().filter(|address| !old.listen().contains(address)) {
        changes.add(format!("service {service}: listener {come}: added"));
    }
}
