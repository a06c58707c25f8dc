//! What a reload changes of the tables `[service.health]` and `[service.ejection]`.

use super::{Changes, list, optional, time};
use crate::config::model::{Ejection, HealthCheck, Service};

pub(super) fn health(changes: &mut Changes, old: &Service, new: &Service) {
    let name = &old.name;
    changes
        .compare(&format!("service {name}: health"), &old.health, &new.health, |health| optional(health, "off", check));
    changes.compare(&format!("service {name}: ejection"), &old.ejection, &new.ejection, |rules| {
        optional(rules, "off", ejection)
    });
}

fn check(check: &HealthCheck) -> String {
    let HealthCheck { path, status, body, host, port, interval, timeout, rise, fall } = check;
    let mut text = match path {
        Some(path) => format!("GET {path} answers {}", list(status, ToString::to_string)),
        None => "a connect".to_owned(),
    };
    for (key, value) in [("body", body), ("host", host)] {
        if let Some(value) = value {
            text.push_str(&format!(", {key} {value:?}"));
        }
    }
    if let Some(port) = port {
        text.push_str(&format!(", port {port}"));
    }
    let (interval, timeout) = (time(interval), time(timeout));
    format!("{text}, every {interval} within {timeout}, rise {rise}, fall {fall}")
}

fn ejection(rules: &Ejection) -> String {
    let Ejection { errors, statuses, duration, max_duration } = rules;
    let (duration, max_duration) = (time(duration), time(max_duration));
    let statuses = list(statuses, ToString::to_string);
    format!("after {errors} errors ({statuses} among them) for {duration}, {max_duration} at most")
}
