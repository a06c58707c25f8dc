//! The page, from its template.

use std::fmt::Write;

use super::sessions::User;

const PAGE: &str = include_str!("page.html");
const LOGIN: &str = include_str!("login.html");
const SESSION: &str = include_str!("session.html");

/// A page and the policy that lets its own script run and no other.
pub(super) struct Page {
    pub(super) html: String,
    pub(super) policy: String,
}

/// The login form, with a notice above it unless it is empty.
pub(super) fn login(generation: u64, notice: &str) -> Page {
    let notice = match notice {
        "" => String::new(),
        _ => format!("<p class=\"notice\" role=\"status\">{}</p>", escape(notice)),
    };
    page(generation, &fill(LOGIN, &[("notice", &notice)]))
}

/// The page of someone who is logged in.
pub(super) fn session(generation: u64, user: &User) -> Page {
    let counter = user.counter.to_string();
    page(generation, &fill(SESSION, &[("name", &escape(&user.name)), ("counter", &counter)]))
}

fn page(generation: u64, main: &str) -> Page {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system gives random bytes");
    let nonce = format!("{:032x}", u128::from_be_bytes(random));
    let number = generation.to_string();
    let html = fill(
        PAGE,
        &[
            ("generation", &number),
            ("digits", &number.len().to_string()),
            ("hue", &hue(generation).to_string()),
            ("pid", &std::process::id().to_string()),
            ("nonce", &nonce),
            ("main", main),
        ],
    );
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self' ws: wss:; \
         img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    Page { html, policy }
}

/// A colour for each generation, in degrees: steps of the golden angle keep neighbours far apart; the first is blue.
fn hue(generation: u64) -> u64 {
    (generation % 3_600 * 1_375 + 1_175) / 10 % 360
}

/// Puts values into `{{name}}` places, in one pass: a value is not searched for places.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len() + 1_024);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("places in our templates are closed");
        let value = values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        filled.push_str(before);
        filled.push_str(value.expect("places in our templates have values"));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// Text as HTML, fit for elements and quoted attributes.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut html, c| {
        match c {
            '&' | '<' | '>' | '"' | '\'' => {
                let _ = write!(html, "&#{};", c as u32);
            }
            _ => html.push(c),
        }
        html
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_typed_stays_text() {
        let user = User { name: "<script>'\"&{{nonce}}".into(), counter: 7 };
        let page = session(3, &user);
        assert!(page.html.contains("&#60;script&#62;&#39;&#34;&#38;{{nonce}}"));
        assert!(!login(3, "<b>").html.contains("<b>"));
    }

    #[test]
    fn neighbouring_generations_look_different() {
        for generation in 1..200 {
            for other in generation + 1..generation + 5 {
                let apart = hue(generation).abs_diff(hue(other));
                assert!(apart.min(360 - apart) >= 30, "{generation} and {other}");
            }
        }
        let biggest = login(u64::MAX, "");
        assert!(biggest.html.contains("18446744073709551615"));
    }
}
