//! Fields in which links and paths stand among other things.

use super::{Authority, Links, quoted, unquoted};

/// A Set-Cookie line (RFC 6265 section 5.2) with the public Path, and without a Domain by which the backend alone goes:
/// the cookie then is the host's that the client asked. `None` if it stays.
pub(super) fn cookie(links: &Links, line: &[u8]) -> Option<Vec<u8>> {
    let mut parts = line.split(|byte| *byte == b';');
    let pair = parts.next()?;
    // Browsers take a cookie of such a name for the path "/" only (RFC 6265bis section 4.1.3.2).
    let is_pinned = pair.trim_ascii_start().get(..7).is_some_and(|name| name.eq_ignore_ascii_case(b"__Host-"));
    let mut rewritten = pair.to_vec();
    let mut has_changed = false;
    for part in parts {
        let end = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
        let (name, value) = (part[..end].trim_ascii(), part.get(end + 1..).unwrap_or_default().trim_ascii());
        if name.eq_ignore_ascii_case(b"domain") && is_foreign(links, value) {
            has_changed = true;
            continue;
        }
        rewritten.push(b';');
        match path(links, value).filter(|_| name.eq_ignore_ascii_case(b"path") && !is_pinned) {
            Some(path) => {
                rewritten.extend_from_slice(&part[..=end]);
                rewritten.extend_from_slice(&path);
                has_changed = true;
            }
            None => rewritten.extend_from_slice(part),
        }
    }
    has_changed.then_some(rewritten)
}

/// A cookie's path as clients have to see it; `None` if it stays.
fn path(links: &Links, path: &[u8]) -> Option<Vec<u8>> {
    if path.first() != Some(&b'/') {
        return None;
    }
    let rest = links.below(path)?;
    // The application's root is the public prefix itself: "/app/" would not cover "/app".
    let rest = if links.backend.is_empty() && rest == b"/" { b"" } else { rest };
    let public = [links.public.as_bytes(), rest].concat();
    Some(if public.is_empty() { b"/".to_vec() } else { public })
}

/// Whether browsers would refuse a Domain because the application goes by the name that the gateway gave it.
fn is_foreign(links: &Links, domain: &[u8]) -> bool {
    let Some(told) = &links.told else { return false };
    let domain = domain.strip_prefix(b".").unwrap_or(domain);
    let Some(domain) = Authority::parse(domain) else { return false };
    let covers = |host: &Authority| {
        host.name.strip_suffix(&domain.name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    covers(told) && !links.known.first().is_some_and(covers)
}

/// `5; url=/app/next`, as the HTML standard reads it ("shared declarative refresh steps"). `None` if it stays.
pub(super) fn refresh(links: &Links, line: &[u8]) -> Option<Vec<u8>> {
    let start = line.iter().position(|byte| !(byte.is_ascii_digit() || *byte == b'.' || byte.is_ascii_whitespace()))?;
    if !matches!(line[start], b';' | b',') {
        return None;
    }
    let mut url = line[start + 1..].trim_ascii_start();
    if url.get(..3).is_some_and(|word| word.eq_ignore_ascii_case(b"url"))
        && let Some(value) = url[3..].trim_ascii_start().strip_prefix(b"=")
    {
        url = value.trim_ascii_start();
    }
    let quote = url.first().copied().filter(|byte| matches!(byte, b'"' | b'\''));
    let mut tail: &[u8] = b"";
    if let Some(quote) = quote {
        url = &url[1..];
        let end = url.iter().position(|byte| *byte == quote).unwrap_or(url.len());
        (url, tail) = url.split_at(end);
    }
    let before = &line[..line.len() - url.len() - tail.len()];
    links.reference(url).map(|url| [before, &url, tail].concat())
}

/// The targets and the contexts of a Link field (RFC 8288 section 3); `None` if they stay, or if it cannot be read.
pub(super) fn link(links: &Links, line: &[u8]) -> Option<Vec<u8>> {
    let mut rewritten = Vec::new();
    let (mut rest, mut has_changed) = (line, false);
    let mut put = |url: &[u8], into: &mut Vec<u8>| match links.reference(url) {
        Some(url) => {
            into.extend_from_slice(&url);
            has_changed = true;
        }
        None => into.extend_from_slice(url),
    };
    loop {
        let value = rest.iter().position(|byte| !(*byte == b',' || byte.is_ascii_whitespace()));
        let Some(value) = value else { break };
        let (before, target) = rest.split_at(value);
        let target = target.strip_prefix(b"<")?;
        let end = target.iter().position(|byte| *byte == b'>')?;
        rewritten.extend_from_slice(before);
        rewritten.push(b'<');
        put(&target[..end], &mut rewritten);
        rewritten.push(b'>');
        let parameters = &target[end + 1..];
        let (mut parameters, after) = parameters.split_at(unquoted(parameters, b',')?);
        while let Some(parameter) = parameters.strip_prefix(b";") {
            let (parameter, next) = parameter.split_at(unquoted(parameter, b';')?);
            rewritten.push(b';');
            match anchor(parameter) {
                Some((before, url, after)) => {
                    rewritten.extend_from_slice(before);
                    put(url, &mut rewritten);
                    rewritten.extend_from_slice(after);
                }
                None => rewritten.extend_from_slice(parameter),
            }
            parameters = next;
        }
        // Blanks; anything else makes the line one that two readers could read differently.
        if !parameters.trim_ascii().is_empty() {
            return None;
        }
        rewritten.extend_from_slice(parameters);
        rest = after;
    }
    rewritten.extend_from_slice(rest);
    has_changed.then_some(rewritten)
}

/// The link's context, between what stands before and behind it.
fn anchor(parameter: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let equals = parameter.iter().position(|byte| *byte == b'=')?;
    if !parameter[..equals].trim_ascii().eq_ignore_ascii_case(b"anchor") {
        return None;
    }
    let blank = parameter[equals + 1..].iter().position(|byte| !byte.is_ascii_whitespace())?;
    let start = equals + 1 + blank;
    let text = &parameter[start..];
    if text.first() != Some(&b'"') || text.contains(&b'\\') {
        return None;
    }
    let end = start + quoted(text)? - 1;
    Some((&parameter[..=start], &parameter[start + 1..end], &parameter[end..]))
}
